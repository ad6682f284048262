//! Flushing denormals to zero while a model runs: numbers below 1e-38 mean nothing to a network
//! and cost a hundred times as much on many CPUs.

#![allow(unsafe_code)] // The control register of the floating-point unit.

use crate::artifact::flush_denormals;

/// Flushes denormals on this thread until dropped, then restores what was.
pub(crate) struct FlushDenormals {
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    before: u64,
}

impl FlushDenormals {
    pub(crate) fn new() -> Self {
        let before = read();
        write(before | FLUSH);
        Self { before }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        write(self.before);
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    pub(crate) fn read() -> u64 {
        let mut value = 0u32;
        // SAFETY: stores four bytes to `value`.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack, preserves_flags)) };
        value.into()
    }

    pub(crate) fn write(value: u64) {
        let value = value as u32;
        // SAFETY: only how denormals are treated differs from the default state that Rust assumes,
        // and no Rust arithmetic runs whose result could depend on it.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, preserves_flags, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    pub fn read() -> u64 {
        let value: u64;
        // SAFETY: reads a control register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) value, options(nostack, nomem, preserves_flags)) };
        value
    }

    pub fn write(value: u64) {
        // SAFETY: as on x86-64.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) value, options(nostack, nomem, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub fn read() -> u64 {
        0
    }
    pub fn write(_: u64) {}
}

use register::{read, write};

const FLUSH: u64 = flush_denormals(std::env::consts::ARCH);

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn denormals_vanish_only_within() {
        let half = |x: f32| std::hint::black_box(x) * std::hint::black_box(0.5);
        assert!(half(f32::MIN_POSITIVE) > 0.0);
        {
            let _guard = FlushDenormals::new();
            assert_eq!(half(f32::MIN_POSITIVE), 0.0);
        }
        assert!(half(f32::MIN_POSITIVE) > 0.0);
    }
}
