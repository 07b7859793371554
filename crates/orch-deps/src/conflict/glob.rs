//! Whether two globs can match the same path.
//!
//! A glob is a sequence of segments between slashes; a segment is `**` or a sequence of letters,
//! `?`, `*` and `[...]`. Both levels are patterns with wildcards that stand for any number of
//! items, and whether two such patterns have a common word is decided by walking the product of
//! their two automata: a table of (position in one, position in the other).

/// A parsed glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    segments: Vec<Segment>,
    /// How many segments stand before the first `**`.
    head: usize,
    /// How many segments stand after the last `**`; all of them where there is none.
    tail: usize,
    /// Hashes of the first of the `head` segments and of the last of the `tail` segments, where
    /// they are plain names; else 0. Most pairs of globs are told apart by these, without a look at
    /// the segments.
    names: [u32; 6],
}

/// How many of [`Glob::names`] belong to the head.
const HEAD_NAMES: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments, also none.
    Deep,
    /// A name without wildcards.
    Literal(Box<str>),
    /// A name with wildcards.
    Pattern(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`: any letter.
    Any,
    /// `*`: any number of letters.
    Many,
    /// `[a-z]` or `[!a-z]`: a letter that is, or is not, in one of the ranges.
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Glob {
    /// Parses a glob as the `glob` crate does, where `*` and `?` don't match a slash.
    ///
    /// - A glob that ends in a name without wildcards, and has no `**`, claims what is below that
    ///   name as well, in case it is a folder.
    /// - What can't be understood (`[` without `]`, `..` after a wildcard) claims everything.
    pub(super) fn parse(text: &str) -> Self {
        Self::segments(text).map_or_else(|| Self::new(vec![Segment::Deep]), Self::new)
    }

    fn new(segments: Vec<Segment>) -> Self {
        let is_deep = |segment: &Segment| *segment == Segment::Deep;
        let head = segments.iter().position(is_deep).unwrap_or(segments.len());
        let tail = segments.iter().rev().position(is_deep).unwrap_or(segments.len());
        let mut names = [0; 6];
        let (first, last) = names.split_at_mut(HEAD_NAMES);
        for (name, segment) in first.iter_mut().zip(segments.iter().take(head)) {
            *name = segment.hash();
        }
        for (name, segment) in last.iter_mut().zip(segments.iter().rev().take(tail)) {
            *name = segment.hash();
        }
        Self { segments, head, tail, names }
    }

    fn segments(text: &str) -> Option<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        loop {
            match rest.next() {
                Some('?') => tokens.push(Token::Any),
                Some('*') => tokens.push(Token::Many),
                Some('[') => tokens.push(set(&mut rest)?),
                Some('/') | None => {
                    push_segment(&mut segments, std::mem::take(&mut tokens))?;
                    if rest.peek().is_none() {
                        break;
                    }
                }
                Some(letter) => tokens.push(Token::Letter(letter)),
            }
        }
        let names_a_place = matches!(segments.last(), None | Some(Segment::Literal(_)));
        if names_a_place && !segments.contains(&Segment::Deep) {
            segments.push(Segment::Deep);
        }
        Some(segments)
    }

    /// Letters that every path it matches begins with.
    pub(super) fn prefix(&self) -> String {
        let mut prefix = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 && *segment != Segment::Deep {
                prefix.push('/');
            }
            match segment {
                Segment::Deep => break,
                Segment::Literal(name) => prefix.push_str(name),
                Segment::Pattern(tokens) => {
                    prefix.extend(tokens.iter().map_while(|token| match token {
                        Token::Letter(letter) => Some(*letter),
                        _ => None,
                    }));
                    break;
                }
            }
        }
        prefix
    }

    /// Whether some path is matched by both; in doubt it says that there is one.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.segments, &other.segments);
        let differ = |(a, b): (&u32, &u32)| *a != 0 && *b != 0 && a != b;
        if self.names.iter().zip(&other.names).any(differ) {
            return false;
        }
        // Segments that stand face to face, counted from the start and from the end.
        let mut head = mine.iter().zip(theirs).take(self.head.min(other.head));
        let mut tail = mine.iter().rev().zip(theirs.iter().rev()).take(self.tail.min(other.tail));
        head.all(|(a, b)| a.overlaps(b))
            && tail.all(|(a, b)| a.overlaps(b))
            && have_common_word(mine, theirs, |s| *s == Segment::Deep, Segment::overlaps)
    }
}

impl Segment {
    /// 0 where it is no plain name.
    fn hash(&self) -> u32 {
        match self {
            // FNV-1a.
            Self::Literal(name) => name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            }),
            Self::Deep | Self::Pattern(_) => 0,
        }
    }

    /// Of two segments neither of which is `**`.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Deep, _) | (_, Self::Deep) => true,
            (Self::Literal(a), Self::Literal(b)) => a == b,
            (Self::Pattern(tokens), Self::Literal(name))
            | (Self::Literal(name), Self::Pattern(tokens)) => {
                let letters: Vec<_> = name.chars().map(Token::Letter).collect();
                tokens_overlap(tokens, &letters)
            }
            (Self::Pattern(a), Self::Pattern(b)) => tokens_overlap(a, b),
        }
    }
}

fn tokens_overlap(a: &[Token], b: &[Token]) -> bool {
    have_common_word(a, b, |token| *token == Token::Many, Token::overlaps)
}

impl Token {
    /// Of two tokens neither of which is `*`.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Letter(a), Self::Letter(b)) => a == b,
            (Self::Letter(letter), Self::Set { ranges, negated })
            | (Self::Set { ranges, negated }, Self::Letter(letter)) => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&letter)) != *negated
            }
            (Self::Set { ranges: a, negated: false }, Self::Set { ranges: b, negated: false }) => {
                a.iter().any(|(low, high)| b.iter().any(|(l, h)| low <= h && l <= high))
            }
            // In doubt: yes.
            _ => true,
        }
    }
}

/// Whether two patterns have a common word. Items for which `is_many` stand for any number of
/// items; of the others `fits` says whether two of them can stand for the same one.
fn have_common_word<T>(
    a: &[T],
    b: &[T],
    is_many: impl Fn(&T) -> bool,
    fits: impl Fn(&T, &T) -> bool,
) -> bool {
    // row[j]: whether some word leads through a[..i] and through b[..j]. Short rows need no heap.
    let (mut short, mut long);
    let row = if b.len() < 32 {
        short = [false; 32];
        &mut short[..=b.len()]
    } else {
        long = vec![false; b.len() + 1];
        &mut long[..]
    };
    let skip = |row: &mut [bool]| {
        for (j, item) in b.iter().enumerate() {
            row[j + 1] |= row[j] && is_many(item);
        }
    };
    row[0] = true;
    skip(row);
    for item in a {
        if is_many(item) {
            // It may stand for nothing, or for whatever comes in `b`.
            let first = row.iter().position(|reached| *reached).unwrap_or(row.len());
            row[first..].fill(true);
            continue;
        }
        for j in (0..=b.len()).rev() {
            // In `b` too something of any length stands before or after this place and takes the
            // item in; or the item fits the one before.
            let stays = row[j] && (b.get(j).is_some_and(&is_many) || j > 0 && is_many(&b[j - 1]));
            row[j] = stays || j > 0 && row[j - 1] && !is_many(&b[j - 1]) && fits(item, &b[j - 1]);
        }
        skip(row);
    }
    row[b.len()]
}

/// Takes the rest of `[...]`, after the bracket; `None` where it does not end.
fn set(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'!').is_some();
    let mut letters = Vec::new();
    loop {
        match rest.next()? {
            ']' if !letters.is_empty() => break,
            letter => letters.push(letter),
        }
    }
    let mut ranges = Vec::new();
    let mut left = letters.as_slice();
    while let [first, more @ ..] = left {
        left = if let ['-', last, more @ ..] = more {
            ranges.push((*first, *last));
            more
        } else {
            ranges.push((*first, *first));
            more
        };
    }
    Some(match ranges[..] {
        [(low, high)] if low == high && !negated => Token::Letter(low),
        _ => Token::Set { ranges, negated },
    })
}

/// Appends a segment. `None` for `..` after anything but a name: where that leads can't be known.
fn push_segment(segments: &mut Vec<Segment>, tokens: Vec<Token>) -> Option<()> {
    let name: Option<String> = tokens
        .iter()
        .map(|token| match token {
            Token::Letter(letter) => Some(*letter),
            _ => None,
        })
        .collect();
    match name.as_deref() {
        Some("" | ".") => {}
        Some("..") => match segments.pop()? {
            Segment::Literal(_) => {}
            Segment::Deep | Segment::Pattern(_) => return None,
        },
        Some(name) => segments.push(Segment::Literal(name.into())),
        None if tokens == [Token::Many, Token::Many] => {
            if segments.last() != Some(&Segment::Deep) {
                segments.push(Segment::Deep);
            }
        }
        None => segments.push(Segment::Pattern(tokens)),
    }
    Some(())
}

#[cfg(test)]
mod tests;
