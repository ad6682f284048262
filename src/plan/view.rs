//! Where a value lies and how its elements are arranged.

use super::BufferId;
use crate::target::Unit;
use crate::tensor::Shape;

/// Arrangement of a value's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row-major, nothing added.
    Plain,
    /// `[N][C / lanes][H][W][lanes]`. A rank-2 value `[N, F]` is an image of 1×1 with F channels.
    ///
    /// Where `lanes` does not divide C, the last block has *padding lanes*, which are no channels:
    ///
    /// - Kernels write blocks whole. Memory need not be zero before a run; tests fill it with NaN.
    /// - What they write there means nothing, but is a finite number, as long as the value's channels
    ///   are finite: 0 from convolutions (of packed weights and biases that are 0), conversions and
    ///   copies of channels; from a function of such numbers, what it makes of them; 0 again where that
    ///   may be no finite number (`Activation::is_total`, quotients, a norm that may divide by 0).
    /// - No result depends on it. Kernels that look across lanes leave padding lanes out, but for one: a
    ///   direct convolution whose groups straddle blocks may read whole blocks, and multiplies all lanes
    ///   that are not of its group by 0 (`codegen::kernels::direct`). That is why they must be finite.
    Blocked,
}

impl Layout {
    /// The layout that most kernels want for a value of this shape.
    pub fn natural(shape: &Shape) -> Layout {
        if matches!(shape.rank(), 2 | 4) { Layout::Blocked } else { Layout::Plain }
    }
}

/// The memory that a view points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Input(usize),
    Output(usize),
    Buffer(BufferId),
}

/// A value, or a range of its channels, in memory. Strides are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub place: Place,
    pub offset: usize,
    pub layout: Layout,
    pub shape: Shape,
    /// From one image of the batch to the next.
    pub batch_stride: usize,
}

/// `[n, c, h, w]` of a shape of rank 2 or 4.
pub fn image(shape: &Shape) -> Option<[usize; 4]> {
    match *shape.dims() {
        [n, f] => Some([n, f, 1, 1]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

impl View {
    /// A view of a whole value at the start of a place.
    pub fn whole(place: Place, layout: Layout, shape: &Shape, unit: Unit) -> View {
        let bytes = bytes(layout, shape, unit);
        let batch = shape.dims().first().copied().unwrap_or(1);
        View { place, offset: 0, layout, shape: shape.clone(), batch_stride: bytes / batch }
    }

    /// The channels from `first` on, as many as `shape` has, of a blocked view.
    ///
    /// # Panics
    /// When `first` does not begin a block.
    pub fn channels(&self, first: usize, shape: &Shape, unit: Unit) -> View {
        assert!(self.layout == Layout::Blocked && first % unit.lanes == 0, "a slice begins a block");
        let [.., h, w] = self.image();
        let offset = self.offset + first / unit.lanes * h * w * unit.bytes();
        View { offset, shape: shape.clone(), ..self.clone() }
    }

    /// `[n, c, h, w]`.
    ///
    /// # Panics
    /// On a rank other than 2 and 4.
    pub fn image(&self) -> [usize; 4] {
        image(&self.shape).expect("an image or a vector")
    }

    /// Bytes from one pixel to the next in a row.
    pub fn pixel_stride(&self, unit: Unit) -> usize {
        match self.layout {
            Layout::Plain => 4,
            Layout::Blocked => unit.bytes(),
        }
    }

    /// Bytes from one channel block to the next; in the plain layout, from one channel to the next.
    pub fn block_stride(&self, unit: Unit) -> usize {
        let [.., h, w] = self.image();
        h * w * self.pixel_stride(unit)
    }
}

/// Memory that a value takes.
pub fn bytes(layout: Layout, shape: &Shape, unit: Unit) -> usize {
    match (layout, image(shape)) {
        (Layout::Blocked, Some([n, c, h, w])) => n * c.div_ceil(unit.lanes) * h * w * unit.bytes(),
        _ => shape.elements() * 4,
    }
}
