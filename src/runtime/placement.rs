//! Where the threads of a pool may run: apart from one another and from their caller.
//!
//! Threads that wake one another many times a second look idle to a scheduler, and some pack
//! such threads on one CPU, where two take twice as long as one. So the CPUs that the process may
//! use, less the caller's, are divided among the workers, each of which may move within its part.
//! Where there are fewer CPUs than threads, nothing is restricted. Elsewhere than on Linux this
//! does nothing.

#![allow(unsafe_code)] // The system calls about affinity.

/// Tells the CPUs of a pool's workers.
pub(crate) struct Placement {
    /// CPUs that the process could use when the pool was made, ascending.
    allowed: Vec<usize>,
    workers: usize,
}

impl Placement {
    pub(crate) fn new(workers: usize) -> Self {
        Self { allowed: system::allowed(), workers }
    }

    /// A placement that lets every thread be.
    pub(crate) fn free() -> Self {
        Self { allowed: vec![], workers: 0 }
    }

    /// The CPU of the calling thread, as [`Self::settle`] wants it.
    pub(crate) fn home(&self) -> usize {
        if self.allowed.is_empty() { 0 } else { system::current() }
    }

    /// Keeps the calling thread, which is worker `index` (from 0), away from the others where the
    /// caller of runs is on CPU `home`.
    pub(crate) fn settle(&self, index: usize, home: usize) {
        if let Some(part) = self.part(index, home) {
            system::restrict(&part);
        }
    }

    fn part(&self, index: usize, home: usize) -> Option<Vec<usize>> {
        let others: Vec<usize> = self.allowed.iter().copied().filter(|&cpu| cpu != home).collect();
        let bound = |i: usize| others.len() * i / self.workers;
        (self.workers > 0 && others.len() >= self.workers).then(|| others[bound(index)..bound(index + 1)].to_vec())
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::mem::{size_of, zeroed};

    /// None where the system does not say, or has more CPUs than a `cpu_set_t` counts.
    pub(crate) fn allowed() -> Vec<usize> {
        // SAFETY: a set of bits, for which zeros are a value; the call fills at most its size.
        unsafe {
            let mut set: libc::cpu_set_t = zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
                return vec![];
            }
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
        }
    }

    pub(crate) fn current() -> usize {
        // SAFETY: takes nothing and answers a number, or −1, which is no CPU's.
        unsafe { libc::sched_getcpu() as usize }
    }

    /// A refusal changes nothing but speed.
    pub(crate) fn restrict(cpus: &[usize]) {
        // SAFETY: as in `allowed`; every number is below `CPU_SETSIZE`, since `allowed` gave it.
        unsafe {
            let mut set: libc::cpu_set_t = zeroed();
            cpus.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn allowed() -> Vec<usize> {
        vec![]
    }

    pub fn current() -> usize {
        0
    }

    pub fn restrict(_: &[usize]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_parts_of_their_own_without_the_callers_cpu() {
        let placement = Placement { allowed: vec![0, 1, 2, 5, 7, 8], workers: 2 };
        assert_eq!(placement.part(0, 1), Some(vec![0, 2]));
        assert_eq!(placement.part(1, 1), Some(vec![5, 7, 8]));
        // A caller from a CPU that is none of ours takes none away.
        assert_eq!(placement.part(1, 6), Some(vec![5, 7, 8]));
    }

    #[test]
    fn more_threads_than_cpus_are_let_be() {
        let placement = Placement { allowed: vec![0, 1], workers: 2 };
        assert_eq!(placement.part(0, 0), None);
        assert_eq!(Placement::free().part(0, 0), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_settled_thread_is_where_it_was_told_to_be() {
        let placement = Placement::new(1);
        let home = placement.home();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                placement.settle(0, home);
                if let Some(part) = placement.part(0, home) {
                    assert_eq!(system::allowed(), part);
                    assert!(part.contains(&system::current()));
                }
            });
        });
    }
}
