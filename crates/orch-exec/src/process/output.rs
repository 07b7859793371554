//! An agent's output: streamed to a file, with a cap, and never held in memory as a whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use orch_faults::point;

use super::budget::Budget;

/// How much of the end is kept in memory for error messages, in bytes.
const TAIL: usize = 4096;

/// How much is kept of an output once the run's [`Budget`] is used up, in bytes: one half of the
/// beginning, and at least a quarter of the end.
pub(super) const LITTLE: u64 = 16 << 10;

/// Takes an agent's output. The file is made with the first byte. Up to the cap it holds everything;
/// beyond, the first half of the cap and, after a line that tells how much was cut, at least the
/// last quarter. Where the budget of the run is used up, the cap is what is there already, or [`LITTLE`].
///
/// The end is kept in two further files that take turns, each a quarter of the cap, so that no byte
/// is written more than twice and disk use stays within the cap. [`Output::finish`] joins the files.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    budget: Arc<Budget>,
    head: Option<File>,
    in_head: u64,
    head_cap: u64,
    parts: [Option<File>; 2],
    /// How many bytes they hold.
    in_part: [u64; 2],
    part_cap: u64,
    /// Which of the two takes bytes now.
    turn: usize,
    total: u64,
    cut: u64,
    /// The budget was used up before its end.
    is_little: bool,
    tail: Vec<u8>,
}

impl Output {
    pub(super) fn new(path: PathBuf, cap: u64, budget: Arc<Budget>) -> Self {
        let cap = cap.max(4);
        Self {
            path,
            budget,
            head: None,
            in_head: 0,
            head_cap: cap / 2,
            parts: [None, None],
            in_part: [0, 0],
            part_cap: cap / 4,
            turn: 0,
            total: 0,
            cut: 0,
            is_little: false,
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
        if !self.is_little && self.budget.is_used_up() {
            self.is_little = true;
            self.head_cap = self.head_cap.min(self.in_head.max(LITTLE / 2));
            self.part_cap = self.part_cap.min(LITTLE / 4);
        }
        while !bytes.is_empty() {
            let is_head = self.in_head < self.head_cap;
            if !is_head && self.in_part[self.turn] >= self.part_cap {
                self.take_turns();
            }
            let room = if is_head {
                self.head_cap - self.in_head
            } else {
                self.part_cap - self.in_part[self.turn]
            };
            let fits = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, later) = bytes.split_at(fits);
            if is_head {
                orch_faults::write_all("output::write", self.head()?, now)?;
                self.in_head += now.len() as u64;
            } else {
                self.part()?.write_all(now)?;
                self.in_part[self.turn] += now.len() as u64;
            }
            self.total += now.len() as u64;
            self.budget.take(now.len() as u64);
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
                    let why = if self.is_little { ", `max_total_output` is reached" } else { "" };
                    writeln!(self.head()?, "\n[orch: {cut} bytes of output cut here{why}]")?;
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

    fn take_turns(&mut self) {
        self.turn = 1 - self.turn;
        self.parts[self.turn] = None;
        // The file is emptied when it is opened next, which is at once.
        let dropped = std::mem::take(&mut self.in_part[self.turn]);
        self.cut += dropped;
        self.budget.give(dropped);
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
            let open = || point!("output::make", File::create(path));
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
        let mut output = Output::new(path.clone(), cap, Arc::new(Budget::new(u64::MAX)));
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

    /// What files of these names and others take in a folder.
    fn size(folder: &Path) -> u64 {
        let files = fs::read_dir(folder).into_iter().flatten();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn once_the_budget_is_used_up_little_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path();
        let budget = Arc::new(Budget::new(1 << 20));
        let output = |name: &str| Output::new(logs.join(name), 600_000, Arc::clone(&budget));
        let line = [vec![b'x'; 999], vec![b'\n']].concat();
        // One is in its head, one in its tail, one has not begun.
        let (mut head, mut tail, mut late) = (output("head"), output("tail"), output("late"));
        for _ in 0..200 {
            head.write(&line).unwrap();
        }
        let mut filler = output("filler");
        while !budget.is_used_up() {
            filler.write(&line).unwrap();
            tail.write(&line).unwrap();
        }
        let before = size(logs);
        for _ in 0..2000 {
            for output in [&mut head, &mut tail, &mut late] {
                output.write(&line).unwrap();
                assert!(size(logs) <= before + 3 * LITTLE, "{}", size(logs));
            }
        }
        for output in [&mut head, &mut tail, &mut late] {
            output.write(b"the end\n").unwrap();
            output.finish().unwrap();
        }
        assert_eq!(late.total(), 2_000_008);
        for (name, least, most) in
            [("head", 200_000, 210_000), ("tail", 300_000, 310_000), ("late", 12_000, 17_000)]
        {
            let text = fs::read_to_string(logs.join(name)).unwrap();
            assert!((least..most).contains(&text.len()), "{name}: {}", text.len());
            assert!(text.contains("cut here, `max_total_output` is reached]\n"), "{name}");
            assert!(text.ends_with("the end\n"));
        }
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
