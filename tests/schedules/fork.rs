//! A process that is never copied: real copies are tested by `tests/fork.rs`.

pub fn generation() -> usize {
    0
}

pub fn watch() {}
