//! A warm run allocates nothing, on any of its threads. In a binary of its own, since it counts
//! the allocations of the whole process.

#![allow(unsafe_code)]

use netc::internals::runtime::{Model, ModelOptions};
use netc::internals::testing::tiny;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is this one's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer comes from `alloc` above with the same layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test function, and it measures the runs alone, so that the harness has nothing to do meanwhile.
#[test]
fn a_warm_run_allocates_nothing() {
    for (file, threads) in [(false, 1), (false, 2), (true, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let options = ModelOptions::default().threads(threads);
        let model = if file {
            tiny::write(&folder.path().join("tiny.netc"), 2);
            // SAFETY: the file was written just now, and nobody changes it.
            unsafe { Model::open_with(folder.path().join("tiny.netc"), options).unwrap() }
        } else {
            tiny::model(2, options)
        };
        // Three images: a whole batch and a remainder.
        let input = vec![1.0; 3 * tiny::WIDTH];
        let mut output = vec![0.0; 3 * tiny::WIDTH];
        model.run(&[&input], &mut [&mut output]).unwrap();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..100 {
            model.run(&[&input], &mut [&mut output]).unwrap();
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "file {file}, {threads} threads");
        assert_eq!(output, tiny::expected(&input));
    }
}
