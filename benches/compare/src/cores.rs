//! The processors of this machine, and who may use which: a generator on the server's core measures itself.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors for the servers and for the generator: apart, if there are two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// The servers'.
    pub server: Vec<usize>,
    /// The generator's.
    pub generator: Vec<usize>,
}

impl Cores {
    /// Shares out the processors that this process may use.
    pub fn share() -> io::Result<Cores> {
        let may = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| may.is_set(*core)).collect();
        Ok(share(&all, first_sibling))
    }

    /// All of them.
    pub fn all(&self) -> Vec<usize> {
        if self.apart() { [self.server.as_slice(), &self.generator].concat() } else { self.server.clone() }
    }

    /// Says whether the generator has processors that the servers do not use.
    pub fn apart(&self) -> bool {
        self.server != self.generator
    }
}

/// Half for the servers, half for the generator. `core` tells which hardware threads are of one core, by a number that
/// they share: these stay on one side, as what one does slows the other.
fn share(all: &[usize], core: impl Fn(usize) -> usize) -> Cores {
    let mut sorted = all.to_vec();
    sorted.sort_by_key(|thread| (core(*thread), *thread));
    let whole = |at: &usize| *at == 0 || core(sorted[*at]) != core(sorted[at - 1]);
    let half = sorted.len().div_ceil(2);
    // Where no border between cores is left, two hardware threads of one core are better than one for both.
    match (half..sorted.len()).find(whole).or((sorted.len() > 1).then_some(half)) {
        Some(at) => {
            let generator = sorted.split_off(at);
            Cores { server: sorted, generator }
        }
        None => Cores { server: sorted.clone(), generator: sorted },
    }
}

/// The lowest hardware thread of the core that this one belongs to.
fn first_sibling(thread: usize) -> usize {
    let file = format!("/sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list");
    let siblings = fs::read_to_string(file).unwrap_or_default();
    let first = siblings.split([',', '-', '\n']).next().and_then(|first| first.parse().ok());
    first.unwrap_or(thread)
}

/// Has this thread, and whatever it starts, run on these processors alone.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets this process and those that it starts have as many descriptors as the system allows them; gives the number.
pub fn lift_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let lifted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = setrlimit(Resource::Nofile, lifted).map_or(limit, |()| lifted);
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(all: &[usize], core: impl Fn(usize) -> usize) -> (Vec<usize>, Vec<usize>) {
        let cores = share(all, core);
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
