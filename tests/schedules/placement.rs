//! Threads of a checker have no CPUs.

pub struct Placement;

impl Placement {
    pub fn home(&self) -> usize {
        0
    }

    pub fn settle(&self, _: usize, _: usize) {}
}
