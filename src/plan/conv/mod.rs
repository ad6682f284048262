//! Convolutions as sums over taps, and the families of kernels that compute them.
//!
//! Convolution, linear layer and transposed convolution are one thing here, a [`Problem`]. A linear
//! layer over a flattened image is a convolution whose window is the image. Each family of kernels is
//! a file and a type: the choices that one of its kernels makes, when they fit, what they cost
//! ([`Family`]).

mod arithmetic;
mod cost;
mod depthwise;
mod direct;
mod geometry;
mod grouped;
mod problem;
mod tile;
mod winograd;

use crate::target::Target;

pub(crate) use arithmetic::{Arithmetic, Factors, registers_beside_stores};
pub(crate) use cost::{convert_cost, planes_cost};
pub(crate) use depthwise::Depthwise;
pub(crate) use direct::{Direct, Fold};
pub(crate) use geometry::{Axis, Geometry, Taps};
pub(crate) use grouped::Grouped;
pub(crate) use problem::Problem;
pub(crate) use tile::{BlockSets, half_filled, split, work};
#[cfg(test)]
pub(crate) use winograd::LARGEST_WEIGHT;
pub(crate) use winograd::{Points, Winograd, largest_sum, name as winograd_name, objection, wants_sums};

/// What the names of kernels have that multiply in bf16, where others of their family do not.
pub(crate) const OF_BF16: &str = "-bf16";

/// A family of kernels: its type holds the choices that one of them makes.
pub(crate) trait Family: Sized {
    /// Whether it reads a plain image as it is; the others' inputs are brought into blocks first.
    const READS_PLAIN: bool = false;

    /// The kernels that fit the problem with blocks of `block` channels, each with an estimate in
    /// nanoseconds. They keep a block's channels of a pixel in one vector.
    fn candidates(problem: &Problem, block: usize, target: &Target) -> Vec<(Self, f64)>;

    /// The algorithm's name, as `--algo` takes it.
    fn name(&self) -> String;

    /// The name with the choices, which tells the kernels of one problem apart.
    fn describe(&self) -> String {
        self.name()
    }
}
