//! What a target makes of its bytes.

/// Bytes that are taken from the front. Where there are no more, there are zeros.
#[derive(Debug, Clone)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Whether the next byte is odd.
    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `limit`, which is at most 256.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// A place in something of this length: from 0 to `length`.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number % (length + 1)
    }

    /// The next bytes: fewer only at the end.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next bytes as text; their number is the first of them, up to `most`.
    pub(crate) fn text(&mut self, most: usize) -> String {
        let length = self.below(most + 1);
        String::from_utf8_lossy(self.take(length)).into_owned()
    }

    pub(crate) fn sizes(&mut self) -> Sizes {
        Sizes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// In what pieces a stream comes: of these sizes, over and over. All zeros stand for one piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes(pub(crate) [u8; 4]);

impl Sizes {
    pub(crate) fn pieces<'a>(&self, mut bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let sizes = if self.0 == [0; 4] { [usize::MAX; 4] } else { self.0.map(usize::from) };
        sizes.into_iter().cycle().map_while(move |size| {
            if bytes.is_empty() {
                return None;
            }
            let (piece, rest) = bytes.split_at(size.min(bytes.len()));
            bytes = rest;
            Some(piece)
        })
    }
}
