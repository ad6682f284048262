//! What convolutions of any number of axes say of their kernels.

use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::Call;

/// What is added to both sides of an axis, where the total need not be even.
pub(super) fn halves(total: usize, odd_at_start: bool) -> (usize, usize) {
    if odd_at_start { (total.div_ceil(2), total / 2) } else { (total / 2, total.div_ceil(2)) }
}

/// The kernel's sizes, of weights with as many axes as their input.
pub(super) fn kernel_of(weight: &Array, rank: usize, call: &Call) -> Result<Vec<i64>, String> {
    let kernel = weight.dims.get(2..).filter(|_| weight.rank() == rank);
    let kernel = kernel.ok_or_else(|| format!("its weights have {} axes, its input {rank}", weight.rank()))?;
    let kernel: Vec<i64> = kernel.iter().map(|&d| d as i64).collect();
    match call.ints("kernel_shape")? {
        Some(stated) if stated != kernel => {
            Err(format!("kernel_shape {stated:?} is not that of its weights, {kernel:?}"))
        }
        _ => Ok(kernel),
    }
}

pub(super) fn groups_of(call: &Call) -> Result<usize, String> {
    usize::try_from(call.int("group", 1)?).ok().filter(|&g| g > 0).ok_or_else(|| "group is below 1".into())
}

pub(super) fn check_channels(weight: &Array, due: usize, found: usize) -> Result<(), String> {
    match due == found {
        true => Ok(()),
        false => Err(format!("weights of sizes {:?} take {due} channels, its input has {found}", weight.dims)),
    }
}
