//! Interleavings: several processes whose operations take place in any order, and which may be killed at any of
//! them, with the very code that ships.
//!
//! [`explore`] runs a world many times, each time by another schedule of the crate `shuttle`. In it,
//! [`process`] starts a simulated process: a thread of shuttle with a pid of its own. At each [`point!`](crate::point) and
//! [`step`](crate::step) of the code under test another one may go on. The files and their locks are real ones: a
//! lock belongs to an open file, so that two processes of one program exclude each other as two programs do.
//!
//! One that is killed does nothing any more: it unwinds, which closes its files and by that unlocks them, and each of
//! its operations on the way fails. What it has written stays. The ends of processes are told to those who
//! asked by [`at_death`].
//!
//! What is not interleaved: operations that are not steps, and work that the code under test gives to a
//! thread of the system or to another program; a call of git is one step.

mod explore;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    sync::{Mutex, MutexGuard, TryLockError, atomic::Ordering},
};

use shuttle::{
    current::{TaskId, me, try_get_current_task},
    rand::{Rng, thread_rng},
    sync::atomic::AtomicBool,
    thread,
};

pub use self::explore::{Exploration, explore};

/// Simulated processes have pids that no real one has: Linux gives none above 2^22, proc(5).
const FIRST_PID: u32 = 1 << 23;

thread_local! {
    /// How many simulated processes were killed on this thread.
    static KILLS: Cell<u64> = const { Cell::new(0) };
    /// All threads of shuttle are one thread of the system.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// One run of a schedule.
struct World {
    /// Looking at it lets another thread go on, where the schedule says so.
    /// It is never dropped: that is only allowed while its schedule runs.
    switch: ManuallyDrop<AtomicBool>,
    /// One in so many pauses is the last that is waited for; 0 for none.
    patience: Cell<u32>,
    processes: RefCell<Vec<Process>>,
    members: RefCell<HashMap<TaskId, usize>>,
    at_death: RefCell<Vec<AtDeath>>,
    trace: RefCell<Vec<String>>,
}

type AtDeath = Rc<dyn Fn(u32)>;

struct Process {
    threads: u32,
    /// After how many steps it is killed.
    steps: Option<u32>,
    is_killed: bool,
}

/// How long a simulated process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Until it is done.
    Lives,
    /// It is killed at one of its first so many steps, if it comes that far.
    DiesWithin(u32),
}

/// What unwinds a process that was killed.
struct Killed;

/// A thread of a simulated process.
#[derive(Debug)]
pub struct Running<T> {
    thread: thread::JoinHandle<Option<T>>,
    pid: u32,
}

impl<T> Running<T> {
    /// The pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end: what it gives, or `None` where it was killed.
    ///
    /// # Panics
    /// Where it has panicked.
    pub fn join(self) -> Option<T> {
        let given = self.thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        // Where a thread of one process waits for another one, the kill ends both.
        if let Some(world) = world()
            && let Some(index) = world.member()
        {
            world.die_if_killed(index);
        }
        given
    }
}

/// Starts a simulated process. Nothing that `main` gives may hold on to what the process had.
///
/// # Panics
/// Outside of [`explore`].
pub fn process<T: Send + 'static>(
    fate: Fate,
    main: impl FnOnce() -> T + Send + 'static,
) -> Running<T> {
    let world = world().expect("processes are simulated by `explore`");
    let steps = match fate {
        Fate::Lives => None,
        Fate::DiesWithin(most) => Some(thread_rng().gen_range(0..most)),
    };
    let mut processes = world.processes.borrow_mut();
    processes.push(Process { threads: 0, steps, is_killed: false });
    let index = processes.len() - 1;
    drop(processes);
    start(&world, index, main)
}

/// Starts a further thread of the simulated process that calls. When the process is killed, it ends too.
///
/// # Panics
/// Where no simulated process calls.
pub fn fork<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let world = world().expect("threads are simulated by `explore`");
    let index = world.member().expect("a simulated process starts it");
    start(&world, index, main)
}

fn start<T: Send + 'static>(
    world: &World,
    index: usize,
    main: impl FnOnce() -> T + Send + 'static,
) -> Running<T> {
    world.processes.borrow_mut()[index].threads += 1;
    let thread = thread::spawn(move || {
        let world = self::world().expect("it lasts as long as its threads");
        world.members.borrow_mut().insert(me(), index);
        let ended = catch_unwind(AssertUnwindSafe(main));
        world.end(index, ended)
    });
    Running { thread, pid: pid_of(index) }
}

/// Has the end of each simulated process told from now on.
///
/// # Panics
/// Outside of [`explore`].
pub fn at_death(tell: impl Fn(u32) + 'static) {
    let world = world().expect("processes are simulated by `explore`");
    world.at_death.borrow_mut().push(Rc::new(tell));
}

/// Has one in so many pauses be the last that is waited for: whoever waits then gives up. At first nobody does.
///
/// # Panics
/// Outside of [`explore`].
pub fn patience(one_in: u32) {
    world().expect("pauses are simulated by `explore`").patience.set(one_in);
}

/// Adds a line to what is printed where this schedule is replayed.
pub fn note(line: impl FnOnce() -> String) {
    if let Some(world) = world() {
        world.note(line);
    }
}

pub(crate) fn is_on() -> bool {
    world().is_some_and(|world| world.member().is_some())
}

pub(crate) fn step(name: &str) -> io::Result<()> {
    match world().and_then(|world| Some((world.member()?, world))) {
        Some((index, world)) => world.step(index, name),
        None => Ok(()),
    }
}

pub(crate) fn pause() -> Option<bool> {
    let world = world()?;
    let index = world.member()?;
    if std::thread::panicking() {
        return Some(false);
    }
    thread::yield_now();
    world.die_if_killed(index);
    let patience = world.patience.get();
    Some(patience == 0 || !thread_rng().gen_ratio(1, patience))
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let world = world()?;
    world.member()?;
    if std::thread::panicking() {
        return None;
    }
    world.switch.load(Ordering::SeqCst);
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
}

pub(crate) fn own_pid() -> Option<u32> {
    world()?.member().map(pid_of)
}

pub(crate) fn is_dead(pid: u32) -> Option<bool> {
    let world = world()?;
    let index = usize::try_from(pid.checked_sub(FIRST_PID)?).ok()?;
    let processes = world.processes.borrow();
    Some(processes.get(index)?.threads == 0)
}

fn pid_of(index: usize) -> u32 {
    FIRST_PID + u32::try_from(index).expect("few processes are simulated")
}

fn world() -> Option<Rc<World>> {
    // Between two schedules there is none, nor after the thread's own end.
    WORLD.try_with(|world| world.borrow().clone()).ok().flatten()
}

impl World {
    fn new() -> Self {
        Self {
            switch: ManuallyDrop::new(AtomicBool::new(false)),
            patience: Cell::new(0),
            processes: RefCell::default(),
            members: RefCell::default(),
            at_death: RefCell::default(),
            trace: RefCell::default(),
        }
    }

    /// The process to which the current thread belongs.
    fn member(&self) -> Option<usize> {
        self.members.borrow().get(&try_get_current_task()?).copied()
    }

    fn step(&self, index: usize, name: &str) -> io::Result<()> {
        if std::thread::panicking() {
            return Err(io::Error::other("the process was killed"));
        }
        self.switch.load(Ordering::SeqCst);
        let mut processes = self.processes.borrow_mut();
        let process = &mut processes[index];
        match &mut process.steps {
            Some(0) if !process.is_killed => {
                process.is_killed = true;
                KILLS.set(KILLS.get() + 1);
            }
            Some(steps) => *steps = steps.saturating_sub(1),
            None => {}
        }
        drop(processes);
        self.die_if_killed(index);
        self.note(|| name.to_owned());
        Ok(())
    }

    fn die_if_killed(&self, index: usize) {
        if self.processes.borrow()[index].is_killed {
            self.note(|| "killed".to_owned());
            // Without the hook for panics: this is none.
            resume_unwind(Box::new(Killed));
        }
    }

    /// The end of a thread.
    fn end<T>(&self, index: usize, ended: Result<T, Box<dyn Any + Send>>) -> Option<T> {
        let given = match ended {
            Ok(given) => Some(given),
            Err(payload) if payload.is::<Killed>() => None,
            Err(panic) => resume_unwind(panic),
        };
        self.members.borrow_mut().remove(&me());
        let mut processes = self.processes.borrow_mut();
        processes[index].threads -= 1;
        let is_over = processes[index].threads == 0;
        drop(processes);
        if is_over {
            let tell: Vec<_> = self.at_death.borrow().clone();
            tell.iter().for_each(|tell| tell(pid_of(index)));
        }
        given
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if explore::is_replay() {
            let who = self.member().map_or_else(|| "-".into(), |index| index.to_string());
            self.trace.borrow_mut().push(format!("{who}: {}", line()));
        }
    }
}

/// Makes the world of a schedule, in the place of the one before.
fn begin() {
    WORLD.with(|world| *world.borrow_mut() = Some(Rc::new(World::new())));
}

/// Takes the last world away, and gives what was noted in it.
fn end() -> Vec<String> {
    let world = WORLD.with(|world| world.borrow_mut().take());
    world.map_or_else(Vec::new, |world| world.trace.take())
}

fn kills() -> u64 {
    KILLS.get()
}
