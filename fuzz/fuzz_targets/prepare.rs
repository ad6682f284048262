#![no_main]
#[path = "../memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| readers::prepare(data));
