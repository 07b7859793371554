//! YAML, by the events of `saphyr-parser`.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Entries, Entry, MAX_DEPTH, Node, Read, Value, syntax, too_deep};
use crate::plan::problem::Problem;

/// How many values aliases may repeat: keeps a few lines from unfolding into gigabytes.
const MAX_ALIASED: usize = 100_000;

pub(super) fn read(text: &str) -> Read {
    let mut builder = Builder::new(text);
    match builder.run() {
        Ok(()) => {
            let empty = || Node::new(Value::Map(Vec::new()), text.len()..text.len());
            let root = builder.root.take().filter(|root| root.value != Value::Null);
            Read { root: Some(root.unwrap_or_else(empty)), problems: builder.problems }
        }
        Err(problem) => Read::broken(*problem),
    }
}

/// A list or table whose end has not been seen.
struct Open {
    start: usize,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    Seq(Vec<Node>),
    Map { entries: Entries, key: Option<(String, Range<usize>)> },
}

struct Builder<'a> {
    text: &'a str,
    /// Byte offsets of characters; `None` where all are one byte long.
    offsets: Option<Vec<usize>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    root: Option<Node>,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        let offsets = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self {
            text,
            offsets,
            open: Vec::new(),
            anchors: HashMap::new(),
            aliased: 0,
            root: None,
            problems: Vec::new(),
        }
    }

    /// The byte at which the character with this index begins.
    fn byte(&self, index: usize) -> usize {
        let end = self.text.len();
        match &self.offsets {
            None => index.min(end),
            Some(offsets) => offsets.get(index).copied().unwrap_or(end),
        }
    }

    fn span(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }

    fn run(&mut self) -> Result<(), Box<Problem>> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, span) = event.map_err(|error| {
                let at = self.byte(error.marker().index());
                syntax(format!("not valid YAML: {}", error.info()), at..at, None)
            })?;
            let span = self.span(span);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let help = "put every plan into a file of its own".to_owned();
                        return Err(syntax("a second document begins here", span, Some(help)));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.scalar(text, style, anchor, tag, span)?
                }
                Event::SequenceStart(anchor, _) => {
                    self.begin(span, anchor, Kind::Seq(Vec::new()))?;
                }
                Event::MappingStart(anchor, _) => {
                    self.begin(span, anchor, Kind::Map { entries: Entries::default(), key: None })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(&span)?,
                Event::Alias(anchor) => self.alias(anchor, &span)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        span: Range<usize>,
    ) -> Result<(), Box<Problem>> {
        let span = exact(self.text, span, style);
        let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        let value = if style == ScalarStyle::Plain && !is_text {
            plain(text)
        } else {
            Value::Str(text.into_owned())
        };
        self.add(Node::new(value, span), anchor)
    }

    fn begin(&mut self, span: Range<usize>, anchor: usize, kind: Kind) -> Result<(), Box<Problem>> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        if let Some(Open { kind: Kind::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(key_is_no_text(span));
        }
        self.open.push(Open { start: span.start, anchor, kind });
        Ok(())
    }

    fn end(&mut self, span: &Range<usize>) -> Result<(), Box<Problem>> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            Kind::Seq(elements) => Value::Seq(elements),
            Kind::Map { entries, .. } => Value::Map(entries.list),
        };
        self.add(Node::new(value, open.start..span.end.max(open.start)), open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: &Range<usize>) -> Result<(), Box<Problem>> {
        let Some(node) = self.anchors.get(&anchor) else {
            let help = "an anchor can't be used inside what it names".to_owned();
            return Err(syntax("this alias contains itself", span.clone(), Some(help)));
        };
        self.aliased = self.aliased.saturating_add(size(node));
        if self.aliased > MAX_ALIASED {
            let message = format!("aliases repeat more than {MAX_ALIASED} values");
            return Err(syntax(message, span.clone(), Some("write the values out".to_owned())));
        }
        // What is wrong with the value as a whole is wrong here, not where it was named.
        let node = Node { span: span.clone(), ..node.clone() };
        self.add(node, 0)
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Box<Problem>> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::Seq(elements)) => elements.push(node),
            Some(Kind::Map { entries, key }) => match key.take() {
                Some((name, span)) => entries.add(Entry::new(name, span, node), &mut self.problems),
                None => match node.value {
                    Value::Str(name) => *key = Some((name, node.span)),
                    Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                        let name = self.text.get(node.span.clone()).unwrap_or_default();
                        *key = Some((name.to_owned(), node.span));
                    }
                    _ => return Err(key_is_no_text(node.span)),
                },
            },
        }
        Ok(())
    }
}

fn key_is_no_text(span: Range<usize>) -> Box<Problem> {
    syntax("a list or a table can't be a key", span, Some("use text as the key".to_owned()))
}

/// How many values a node holds, itself counted.
fn size(node: &Node) -> usize {
    let elements = node.elements().iter().map(size).sum::<usize>();
    1 + elements + node.entries().iter().map(|entry| size(&entry.node)).sum::<usize>()
}

/// The parser's spans of quoted text reach over the blanks and comments that follow.
fn exact(text: &str, span: Range<usize>, style: ScalarStyle) -> Range<usize> {
    let quote = match style {
        ScalarStyle::SingleQuoted => '\'',
        ScalarStyle::DoubleQuoted => '"',
        _ => return span,
    };
    let part = text.get(span.clone()).unwrap_or_default();
    let mut chars = part.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            if quote == '\'' && chars.next_if(|(_, next)| *next == '\'').is_some() {
                continue;
            }
            return span.start..span.start + at + 1;
        }
    }
    span
}

/// A scalar without quotes, by the core schema of YAML 1.2.
fn plain(text: Cow<'_, str>) -> Value {
    match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        number => {
            let is_number = number
                .starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
                && number.bytes().any(|b| b.is_ascii_digit());
            let parsed = if let Some(digits) = number.strip_prefix("0x") {
                i128::from_str_radix(digits, 16).ok().map(Value::Int)
            } else if let Some(digits) = number.strip_prefix("0o") {
                i128::from_str_radix(digits, 8).ok().map(Value::Int)
            } else if is_number {
                let integer = number.parse().ok().map(Value::Int);
                integer.or_else(|| number.parse().ok().map(Value::Float))
            } else {
                None
            };
            parsed.unwrap_or_else(|| Value::Str(text.into_owned()))
        }
    }
}
