//! An agent's output: streamed to a file, with a cap, and never held in memory as a whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// How much of the end is kept in memory for error messages, in bytes.
const TAIL: usize = 4096;

/// Takes an agent's output. The file is made with the first byte. Up to the cap it holds everything;
/// beyond, the first half of the cap and, after a line that tells how much was cut, at least the
/// last quarter.
///
/// The end is kept in two further files that take turns, each a quarter of the cap, so that no byte
/// is written more than twice and disk use stays within the cap. [`Output::finish`] joins the files.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    head: Option<File>,
    parts: [Option<File>; 2],
    /// Which of the two takes bytes now.
    turn: usize,
    /// How many bytes that one holds.
    in_turn: u64,
    cap: u64,
    total: u64,
    cut: u64,
    tail: Vec<u8>,
}

impl Output {
    pub(super) fn new(path: PathBuf, cap: u64) -> Self {
        Self {
            path,
            head: None,
            parts: [None, None],
            turn: 0,
            in_turn: 0,
            cap: cap.max(4),
            total: 0,
            cut: 0,
            tail: Vec::new(),
        }
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The end of the output as valid UTF-8.
    pub(super) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.remember(bytes);
        let head = self.cap / 2;
        if self.total < head {
            let fits =
                usize::try_from(head - self.total).map_or(bytes.len(), |n| n.min(bytes.len()));
            let (now, later) = bytes.split_at(fits);
            self.head()?.write_all(now)?;
            self.total += now.len() as u64;
            bytes = later;
        }
        while !bytes.is_empty() {
            let part = self.cap / 4;
            if self.in_turn == part {
                self.take_turns(part);
            }
            let room = usize::try_from(part - self.in_turn).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.part()?.write_all(now)?;
            self.in_turn += now.len() as u64;
            self.total += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Joins the files to one.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let oldest_first = [1 - self.turn, self.turn];
        for (place, turn) in oldest_first.into_iter().enumerate() {
            if self.parts[turn].take().is_none() {
                continue;
            }
            if place == 0 || self.cut > 0 {
                let cut = std::mem::take(&mut self.cut);
                if cut > 0 {
                    writeln!(self.head()?, "\n[orch: {cut} bytes of output cut here]")?;
                }
            }
            let path = self.part_path(turn);
            io::copy(&mut File::open(&path)?, self.head()?)?;
            fs::remove_file(&path)?;
        }
        Ok(())
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
    }

    fn take_turns(&mut self, part: u64) {
        self.turn = 1 - self.turn;
        self.in_turn = 0;
        if self.parts[self.turn].take().is_some() {
            self.cut += part;
        }
    }

    fn head(&mut self) -> io::Result<&mut File> {
        open(&mut self.head, &self.path)
    }

    fn part(&mut self) -> io::Result<&mut File> {
        let path = self.part_path(self.turn);
        open(&mut self.parts[self.turn], &path)
    }

    fn part_path(&self, turn: usize) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(["~a", "~b"][turn]);
        path.into()
    }
}

fn open<'a>(file: &'a mut Option<File>, path: &Path) -> io::Result<&'a mut File> {
    match file {
        Some(file) => Ok(file),
        None => {
            let open = || File::create(path);
            let opened = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), fs::create_dir_all)?;
                    open()?
                }
                result => result?,
            };
            Ok(file.insert(opened))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(cap: u64, chunks: &[Vec<u8>]) -> (Option<Vec<u8>>, usize, Output) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/a.1.log");
        let mut output = Output::new(path.clone(), cap);
        for chunk in chunks {
            output.write(chunk).unwrap();
        }
        output.finish().unwrap();
        let files = fs::read_dir(folder.path().join("logs")).map_or(0, Iterator::count);
        (fs::read(path).ok(), files, output)
    }

    #[test]
    fn no_output_makes_no_file() {
        let (file, files, output) = written(100, &[]);
        assert_eq!((file, files, output.total()), (None, 0, 0));
    }

    #[test]
    fn the_middle_is_cut() {
        let all: Vec<u8> = (0..200u8).collect();
        let (file, files, output) = written(40, &[all]);
        let file = file.unwrap();
        assert_eq!(files, 1);
        assert_eq!(output.total(), 200);
        assert_eq!(file[..20], (0..20).collect::<Vec<u8>>());
        let text = String::from_utf8_lossy(&file).into_owned();
        assert!(text.contains("\n[orch: 160 bytes of output cut here]\n"), "{text}");
        assert_eq!(file[file.len() - 20..], (180..200).collect::<Vec<u8>>());
    }

    #[test]
    fn the_tail_is_valid_text() {
        let (_, _, output) = written(1 << 20, &[vec![b'x'; 5000], vec![0xff, b'y']]);
        assert!(output.tail().ends_with("x\u{fffd}y"));
        assert_eq!(output.tail().chars().count(), TAIL);
    }

    proptest! {
        #[test]
        fn the_cap_holds_and_head_and_tail_are_kept(
            cap in 4u64..200,
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..12),
        ) {
            let all: Vec<u8> = chunks.concat();
            let (file, _, output) = written(cap, &chunks);
            prop_assert_eq!(output.total(), all.len() as u64);
            let file = file.unwrap_or_default();
            let marker = b"bytes of output cut here]\n";
            match file.windows(marker.len()).position(|w| w == marker) {
                None => prop_assert_eq!(&file, &all),
                Some(at) => {
                    let head = (cap / 2) as usize;
                    prop_assert_eq!(&file[..head], &all[..head]);
                    let tail = &file[at + marker.len()..];
                    prop_assert!(tail.len() as u64 >= cap / 4 && head as u64 + tail.len() as u64 <= cap);
                    prop_assert!(all.ends_with(tail));
                }
            }
        }
    }
}
