//! Lines of a stream of bytes, in bounded memory.

/// The longest line that is read, in bytes. Longer ones are counted, and their beginning is kept.
pub const LONGEST_LINE: usize = 4 << 20;

/// How much is kept of a line that is too long, in bytes.
const KEPT: usize = crate::event::LONGEST_DETAIL;

/// Parts a stream at line feeds, whatever the chunks that it comes in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// How long the line is so far; more than the buffer holds where it is too long.
    length: u64,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    /// The line, or the beginning of one that is too long.
    pub(super) bytes: &'l [u8],
    /// How long it is.
    pub(super) length: u64,
}

impl Line<'_> {
    pub(super) const fn is_whole(&self) -> bool {
        self.length == self.bytes.len() as u64
    }
}

impl Lines {
    /// Takes bytes, and hands on the lines that are complete with them.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            if self.length == 0 && line.len() <= LONGEST_LINE {
                take(Line { bytes: line, length: line.len() as u64 });
            } else {
                self.keep(line);
                take(self.line());
                self.clear();
            }
            bytes = &rest[1..];
        }
        self.keep(bytes);
    }

    /// The last line, where it has no end.
    pub(super) fn finish(&mut self, take: impl FnOnce(Line<'_>)) {
        if self.length > 0 {
            take(self.line());
            self.clear();
        }
    }

    fn line(&self) -> Line<'_> {
        Line { bytes: &self.buffer, length: self.length }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let is_short = self.length <= LONGEST_LINE as u64;
        self.length += bytes.len() as u64;
        if self.length <= LONGEST_LINE as u64 {
            self.buffer.extend_from_slice(bytes);
        } else if is_short {
            // Only now is it known to be too long.
            let missing = KEPT.saturating_sub(self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..missing]);
            self.buffer.truncate(KEPT);
        }
    }

    fn clear(&mut self) {
        self.length = 0;
        self.buffer.clear();
        // One long line is not to hold its memory for the rest of the stream.
        self.buffer.shrink_to(64 << 10);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| found.push((line.bytes.to_vec(), line.length)));
        }
        lines.finish(|line| found.push((line.bytes.to_vec(), line.length)));
        found
    }

    #[test]
    fn chunks_make_no_difference() {
        let whole = lines(&[b"a\n\nbc\nd"]);
        let text = |text: &[u8]| (text.to_vec(), text.len() as u64);
        assert_eq!(whole, [text(b"a"), text(b""), text(b"bc"), text(b"d")]);
        assert_eq!(lines(&[b"a", b"\n\nb", b"", b"c\n", b"d"]), whole);
        assert_eq!(lines(&[b"a\n"]), [text(b"a")], "no line begins after the last end");
    }

    #[test]
    fn a_line_of_a_hundred_megabytes_takes_little_memory() {
        let (mut stream, mut found) = (Lines::default(), Vec::new());
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            stream.push(&chunk, |line| found.push((line.bytes.len(), line.length)));
            // A vector grows by doubling.
            assert!(stream.memory() <= 2 * LONGEST_LINE, "{}", stream.memory());
        }
        stream.push(b"\nshort\n", |line| found.push((line.bytes.len(), line.length)));
        assert_eq!(found, [(KEPT, 100 << 20), (5, 5)]);
        assert!(stream.memory() <= 64 << 10, "{}", stream.memory());
    }

    #[test]
    fn a_long_line_is_the_same_in_one_chunk_and_in_many() {
        for length in [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1] {
            let mut text: Vec<u8> = (0..length).map(|n| b'a' + (n % 26) as u8).collect();
            text.push(b'\n');
            let whole = lines(&[&text]);
            assert_eq!(whole[0].1, length as u64);
            assert_eq!(whole[0].0.len(), if length > LONGEST_LINE { KEPT } else { length });
            for chunk in [1000, 4096, LONGEST_LINE] {
                let chunks: Vec<&[u8]> = text.chunks(chunk).collect();
                assert_eq!(lines(&chunks), whole, "{length} in chunks of {chunk}");
            }
        }
    }
}
