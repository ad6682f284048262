//! Windows along one axis: which input positions an output position reads.
//!
//! Along each axis, output position q reads input positions `q · step + first + k · distance` for taps `k`.
//! A transposed convolution of stride s is s² ordinary ones, its phases, whose results interleave.

use std::ops::Range;

/// The taps along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Taps {
    /// Input positions from one output position to the next.
    pub step: usize,
    /// Input position of tap 0 at output position 0; negative where it is in the padding.
    pub first: isize,
    /// Input positions from one tap to the next.
    pub distance: usize,
    pub count: usize,
    /// Index into the kernel of tap 0, and from one tap to the next.
    pub kernel_first: usize,
    pub kernel_step: isize,
}

impl Taps {
    /// Those of a window of `kernel` taps, `dilation` apart, that moves by `stride` and begins `pad` before
    /// the input.
    pub fn window(kernel: usize, stride: usize, pad: usize, dilation: usize) -> Taps {
        Taps {
            step: stride,
            first: -(pad as isize),
            distance: dilation,
            count: kernel,
            kernel_first: 0,
            kernel_step: 1,
        }
    }

    pub fn kernel_index(&self, tap: usize) -> usize {
        (self.kernel_first as isize + tap as isize * self.kernel_step) as usize
    }

    /// The input position, which may lie in the padding.
    pub fn position(&self, output: usize, tap: usize) -> isize {
        (output * self.step + tap * self.distance) as isize + self.first
    }

    /// How many taps of an output position lie before input position `end`: so many, the first ones.
    pub fn before(&self, output: usize, end: usize) -> usize {
        let room = end as isize - self.position(output, 0);
        (room.max(0) as usize).div_ceil(self.distance.max(1)).min(self.count)
    }

    /// The taps of an output position that lie among `input` positions rather than in the padding.
    pub fn inside(&self, output: usize, input: usize) -> Range<usize> {
        self.before(output, 0)..self.before(output, input)
    }

    /// The input position of an output position's first tap inside; where none is, one nearby.
    pub fn first_inside(&self, output: usize, input: usize) -> usize {
        let position = self.position(output, self.before(output, 0));
        (position.max(0) as usize).min(input - 1)
    }
}

/// One axis of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    pub taps: Taps,
    pub input: usize,
    /// Output positions that are computed, and where they lie in the output.
    pub output: usize,
    pub output_first: usize,
    pub output_step: usize,
}

impl Axis {
    pub fn in_bounds(&self, output: usize, tap: usize) -> bool {
        let p = self.taps.position(output, tap);
        p >= 0 && (p as usize) < self.input
    }

    /// The share of taps that lie in the image rather than in the padding.
    pub fn inside(&self) -> f64 {
        let taps = (0..self.output).flat_map(|q| (0..self.taps.count).map(move |k| (q, k)));
        let inside = taps.filter(|&(q, k)| self.in_bounds(q, k)).count();
        inside as f64 / (self.output * self.taps.count).max(1) as f64
    }

    pub(super) fn conv(input: usize, output: usize, kernel: usize, stride: usize, pad: usize, dilation: usize) -> Axis {
        Axis { taps: Taps::window(kernel, stride, pad, dilation), input, output, output_first: 0, output_step: 1 }
    }

    /// Phase `r` of a transposed convolution: outputs r, r + stride, ….
    pub(super) fn transposed(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        dilation: usize,
        r: usize,
    ) -> Axis {
        // Output o gathers from input (o + pad - k * dilation) / stride, where that divides.
        let fits: Vec<usize> = (0..kernel)
            .filter(|k| (r as isize + pad as isize - (k * dilation) as isize).rem_euclid(stride as isize) == 0)
            .collect();
        let last = fits.last().copied().unwrap_or(0);
        let between = if fits.len() > 1 { fits[1] - fits[0] } else { stride };
        let taps = Taps {
            step: 1,
            first: (r as isize + pad as isize - (last * dilation) as isize).div_euclid(stride as isize),
            distance: between * dilation / stride,
            count: fits.len(),
            kernel_first: last,
            kernel_step: -(between as isize),
        };
        Axis { taps, input, output: (output - r).div_ceil(stride), output_first: r, output_step: stride }
    }
}

/// One pass over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub y: Axis,
    pub x: Axis,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taps are clipped as they are one by one, whole windows in the padding included.
    #[test]
    fn windows_are_clipped() {
        for (kernel, stride, pad, dilation, input) in
            [(3, 1, 1, 1, 5), (3, 2, 4, 3, 4), (5, 3, 2, 2, 3), (1, 2, 0, 1, 4), (2, 4, 6, 5, 1)]
        {
            let taps = Taps::window(kernel, stride, pad, dilation);
            for q in 0..8 {
                let positions = (0..kernel).map(|k| taps.position(q, k));
                let inside: Vec<usize> =
                    positions.enumerate().filter(|(_, p)| (0..input as isize).contains(p)).map(|(k, _)| k).collect();
                assert_eq!(taps.inside(q, input).collect::<Vec<_>>(), inside, "{taps:?} at {q}");
                if let Some(&first) = inside.first() {
                    assert_eq!(taps.first_inside(q, input) as isize, taps.position(q, first));
                }
            }
        }
    }

    /// Every output of a transposed axis gets every product exactly once.
    #[test]
    fn phases_cover_a_transposed_axis() {
        for (kernel, stride, pad, dilation, input) in
            [(4, 2, 1, 1, 5), (3, 3, 0, 1, 4), (5, 2, 2, 2, 6), (2, 3, 0, 1, 3)]
        {
            let output = (input - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad;
            let mut expected: Vec<(usize, usize, usize)> = (0..input)
                .flat_map(|i| (0..kernel).map(move |k| (i, k)))
                .filter_map(|(i, k)| {
                    let o = i * stride + k * dilation;
                    (o >= pad && o - pad < output).then(|| (o - pad, i, k))
                })
                .collect();
            let mut found = vec![];
            for r in 0..stride.min(output) {
                let axis = Axis::transposed(input, output, kernel, stride, pad, dilation, r);
                for q in 0..axis.output {
                    for tap in (0..axis.taps.count).filter(|&t| axis.in_bounds(q, t)) {
                        let o = axis.output_first + q * axis.output_step;
                        found.push((o, axis.taps.position(q, tap) as usize, axis.taps.kernel_index(tap)));
                    }
                }
            }
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "kernel {kernel} stride {stride} pad {pad} dilation {dilation}");
        }
    }
}
