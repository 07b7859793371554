//! Standard Task Graphs (T. Tobita, H. Kasahara, *A standard task graph set for fair evaluation of
//! multiprocessor scheduling algorithms*, Journal of Scheduling 5, 2002), and the proven optima
//! that come with a folder of them.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use orch_model::{
    PlanSpec, Span, TaskId,
    plan::spec::{DefaultsSpec, Isolation, TaskSpec},
};

/// Why a graph or its optimum can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StgError {
    /// A file can't be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what the format wants there.
    #[error("{path}, line {line}: {expected} was expected")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// A folder holds no graph.
    #[error("{path} has no file that ends in .stg; give the folder of the graphs")]
    Empty {
        /// The folder.
        path: String,
    },
}

/// A task graph with its optimal makespans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The file's name.
    pub name: String,
    /// By task: how long it takes, in units of time, and the tasks before it.
    pub tasks: Vec<(u64, Vec<usize>)>,
    /// By number of processors: the optimal makespan, in units of time.
    pub optimum: BTreeMap<u32, u64>,
}

impl Graph {
    /// Reads a graph: the number of tasks, then a line for each task with its number, its time, how
    /// many tasks come before it, and these. The two dummy tasks at the ends count like others.
    ///
    /// # Errors
    /// Where a line is not like that, or names a task that stands further down.
    pub fn parse(name: &str, text: &str) -> Result<Self, StgError> {
        let mut tasks: Vec<(u64, Vec<usize>)> = Vec::new();
        let lines = text.lines().enumerate().skip(1);
        for (at, line) in lines.take_while(|(_, line)| !line.starts_with('#')) {
            let fail = |expected| StgError::Line { path: name.to_owned(), line: at + 1, expected };
            let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
            let numbers = numbers.map_err(|_| fail("a row of numbers"))?;
            match numbers.as_slice() {
                [] => {}
                [index, time, count, before @ ..] => {
                    if *index != tasks.len() as u64 || *count != before.len() as u64 {
                        return Err(fail("number, time, count of predecessors, predecessors"));
                    }
                    if before.iter().any(|other| other >= index) {
                        return Err(fail("predecessors that stand further up"));
                    }
                    tasks.push((*time, before.iter().map(|other| *other as usize).collect()));
                }
                _ => return Err(fail("number, time, count of predecessors, predecessors")),
            }
        }
        Ok(Self { name: name.to_owned(), tasks, optimum: BTreeMap::new() })
    }

    /// The time along the longest chain, in units of time: what no number of processors beats.
    #[must_use]
    pub fn critical_path(&self) -> u64 {
        let mut ends: Vec<u64> = Vec::with_capacity(self.tasks.len());
        for (time, before) in &self.tasks {
            let start = before.iter().map(|other| ends[*other]).max().unwrap_or(0);
            ends.push(start + time);
        }
        ends.into_iter().max().unwrap_or(0)
    }

    /// The graph as a plan, a second for each unit of time; `with_estimates` says whether the plan
    /// tells how long its tasks take.
    ///
    /// # Panics
    /// Never: the ids are valid ones.
    #[must_use]
    pub fn plan(&self, with_estimates: bool) -> PlanSpec {
        let id = |index: usize| TaskId::new(format!("t{index}")).expect("a short id");
        let mut spec = PlanSpec::new();
        spec.defaults =
            DefaultsSpec { isolation: Some(Isolation::None), ..DefaultsSpec::default() };
        for (index, (time, before)) in self.tasks.iter().enumerate() {
            let mut task = TaskSpec::new(id(index)).run("true");
            task.needs = before.iter().copied().map(id).collect();
            task.estimate = with_estimates.then(|| Span(Duration::from_secs(*time)));
            spec.tasks.push(task);
        }
        spec
    }
}

/// Reads the graphs of a folder in the order of their names, and their optima from its
/// `optimum.csv` (file, processors, makespan).
///
/// # Errors
/// Where a file can't be read or understood, or there is no graph.
pub fn read_folder(folder: &Path) -> Result<Vec<Graph>, StgError> {
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|source| StgError::Read { path: path.display().to_string(), source })
    };
    let failed = |source| StgError::Read { path: folder.display().to_string(), source };
    let mut graphs = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "stg") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            graphs.insert(name.clone(), Graph::parse(&name, &read(&path)?)?);
        }
    }
    if graphs.is_empty() {
        return Err(StgError::Empty { path: folder.display().to_string() });
    }
    let optima = folder.join("optimum.csv");
    for (at, line) in read(&optima)?.lines().enumerate().skip(1) {
        let mut fields = line.split(',');
        let mut next = || fields.next().unwrap_or_default();
        let (name, processors, makespan) = (next(), next().parse(), next().parse());
        let (Ok(processors), Ok(makespan)) = (processors, makespan) else {
            let path = optima.display().to_string();
            return Err(StgError::Line {
                path,
                line: at + 1,
                expected: "file,processors,makespan",
            });
        };
        if let Some(graph) = graphs.get_mut(name) {
            graph.optimum.insert(processors, makespan);
        }
    }
    Ok(graphs.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIAMOND: &str = "\
        2\n 0 0 0\n 1 3 1 0\n 2 5 1 0\n 3 0 2 1 2\n# Task Graph Information\n# Seed: 7\n";

    #[test]
    fn a_graph_is_read_with_its_dummy_ends_and_without_its_remarks() {
        let graph = Graph::parse("diamond", DIAMOND).expect("a graph");
        assert_eq!(graph.tasks, [(0, vec![]), (3, vec![0]), (5, vec![0]), (0, vec![1, 2])]);
        assert_eq!(graph.critical_path(), 5);
        let plan = graph.plan(true).validate().expect("a valid plan");
        assert_eq!(plan.tasks()[2].estimate, Some(Duration::from_secs(5)));
        assert_eq!(plan.tasks()[3].needs.len(), 2);
        assert!(graph.plan(false).tasks.iter().all(|task| task.estimate.is_none()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            ("2\n0 0 0\n1 x 0\n", "bad, line 3: a row of numbers was expected"),
            ("2\n0 0 0\n1 4 1 1\n", "bad, line 3: predecessors that stand further up was expected"),
            (
                "2\n0 0 0\n1 4 2 0\n",
                "bad, line 3: number, time, count of predecessors, predecessors was expected",
            ),
        ];
        for (text, expected) in cases {
            let error = Graph::parse("bad", text).expect_err("a bad graph");
            assert_eq!(error.to_string(), expected);
        }
    }
}
