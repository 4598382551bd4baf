//! Assigns cores to the servers and to the generator. A generator on the server's core would distort the measurement.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores for the servers and for the generator. The sets are disjoint unless there is only one core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// Cores of the servers.
    pub server: Vec<usize>,
    /// Cores of the generator.
    pub generator: Vec<usize>,
}

impl Cores {
    /// Splits the cores that this process may use.
    pub fn split() -> io::Result<Cores> {
        let may = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| may.is_set(*core)).collect();
        Ok(split(&all, first_sibling))
    }

    /// The cores of both sets.
    pub fn all(&self) -> Vec<usize> {
        if self.are_separate() {
            [self.server.as_slice(), &self.generator].concat()
        } else {
            self.server.clone()
        }
    }

    /// Whether the generator has its own cores.
    pub fn are_separate(&self) -> bool {
        self.server != self.generator
    }
}

/// Splits hardware threads in halves. `core` returns the same number for the threads of one core. They stay in one set,
/// because they slow each other down.
fn split(all: &[usize], core: impl Fn(usize) -> usize) -> Cores {
    let mut sorted = all.to_vec();
    sorted.sort_by_key(|thread| (core(*thread), *thread));
    let whole = |at: &usize| *at == 0 || core(sorted[*at]) != core(sorted[at - 1]);
    let half = sorted.len().div_ceil(2);
    // With a single core its hardware threads are split after all, which is better than sharing both.
    match (half..sorted.len()).find(whole).or((sorted.len() > 1).then_some(half)) {
        Some(at) => {
            let generator = sorted.split_off(at);
            Cores { server: sorted, generator }
        }
        None => Cores { server: sorted.clone(), generator: sorted },
    }
}

/// The lowest-numbered hardware thread of the same core.
fn first_sibling(thread: usize) -> usize {
    let file = format!("/sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list");
    let siblings = fs::read_to_string(file).unwrap_or_default();
    let first = siblings.split([',', '-', '\n']).next().and_then(|first| first.parse().ok());
    first.unwrap_or(thread)
}

/// Pins this thread, and the processes that it starts, to the given cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the descriptor limit of this process and its children to the hard limit, which is returned.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let lifted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = setrlimit(Resource::Nofile, lifted).map_or(limit, |()| lifted);
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(all: &[usize], core: impl Fn(usize) -> usize) -> (Vec<usize>, Vec<usize>) {
        let cores = split(all, core);
        (cores.server, cores.generator)
    }

    #[test]
    fn one_processor_is_for_both() {
        assert_eq!(shared(&[3], |thread| thread), (vec![3], vec![3]));
    }

    #[test]
    fn two_are_shared_even_if_they_are_of_one_core() {
        assert_eq!(shared(&[0, 1], |thread| thread), (vec![0], vec![1]));
        assert_eq!(shared(&[0, 1], |_| 0), (vec![0], vec![1]));
    }

    #[test]
    fn hardware_threads_of_a_core_stay_on_one_side() {
        let all: Vec<usize> = (0..8).collect();
        assert_eq!(shared(&all, |thread| thread % 4), (vec![0, 4, 1, 5], vec![2, 6, 3, 7]));
        assert_eq!(shared(&[0, 1, 2, 3, 4, 5], |thread| thread / 2), (vec![0, 1, 2, 3], vec![4, 5]));
    }
}
