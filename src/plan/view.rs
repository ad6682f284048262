//! Where a value lies and how its elements are arranged.

use super::BufferId;
use crate::tensor::{Element, Shape};

/// Arrangement of a value's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row-major, nothing added.
    Plain,
    /// `[N][C / block][H][W][block]`: the channels of a block lie side by side, pixel after pixel. A rank-2
    /// value `[N, F]` is an image of 1×1 with F channels.
    ///
    /// Where `block` does not divide C, the last block has *padding lanes*, which are no channels:
    ///
    /// - Kernels write blocks whole. Memory need not be zero before a run; tests fill it with NaN.
    /// - What they write there means nothing, but is a finite number, as long as the value's channels
    ///   are finite: 0 from convolutions (of packed weights and biases that are 0), conversions and
    ///   copies of channels; from a function of such numbers, what it makes of them; 0 again where that
    ///   may be no finite number (`Activation::is_total`, quotients, a norm that may divide by 0).
    /// - No result depends on it. Kernels that look across lanes leave padding lanes out, but for one: a
    ///   direct convolution whose groups straddle blocks may read whole blocks, and multiplies all lanes
    ///   that are not of its group by 0 (`codegen::kernels::direct`). That is why they must be finite.
    Blocked {
        /// Channels of a block.
        block: usize,
    },
}

impl Layout {
    pub fn is_blocked(self) -> bool {
        matches!(self, Layout::Blocked { .. })
    }

    /// Channels that lie side by side: those of a block; one in plain memory, where a channel's pixels do.
    pub fn block(self) -> usize {
        match self {
            Layout::Plain => 1,
            Layout::Blocked { block } => block,
        }
    }
}

/// The memory that a view points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Input(usize),
    Output(usize),
    Buffer(BufferId),
    /// The nth state of the plan: what runs leave for the next.
    State(usize),
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
pub(crate) fn image(shape: &Shape) -> Option<[usize; 4]> {
    match *shape.dims() {
        [n, f] => Some([n, f, 1, 1]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

impl View {
    /// A view of a whole value at the start of a place.
    pub fn whole(place: Place, layout: Layout, shape: &Shape) -> View {
        let bytes = bytes(layout, shape);
        let batch = shape.dims().first().copied().unwrap_or(1);
        View { place, offset: 0, layout, shape: shape.clone(), batch_stride: bytes / batch }
    }

    /// Memory that its elements take, without what lies between them.
    pub(crate) fn bytes(&self) -> usize {
        bytes(self.layout, &self.shape)
    }

    /// The channels from `first` on, as many as `shape` has, of a blocked view.
    ///
    /// # Panics
    /// When `first` does not begin a block.
    pub fn channels(&self, first: usize, shape: &Shape) -> View {
        assert!(self.layout.is_blocked() && first.is_multiple_of(self.block()), "a slice begins a block");
        let offset = self.offset + first / self.block() * self.block_stride();
        View { offset, shape: shape.clone(), ..self.clone() }
    }

    /// `[n, c, h, w]`.
    ///
    /// # Panics
    /// On a rank other than 2 and 4.
    pub fn image(&self) -> [usize; 4] {
        image(&self.shape).expect("an image or a vector")
    }

    /// Channels of a block; 1 in the plain layout.
    pub fn block(&self) -> usize {
        self.layout.block()
    }

    /// Blocks that the channels are in; in the plain layout, the channels.
    pub fn blocks(&self) -> usize {
        let [_, channels, ..] = self.image();
        channels.div_ceil(self.block())
    }

    /// Bytes of an element, and thus from one channel of a block to the next.
    pub fn element_bytes(&self) -> usize {
        self.shape.element().bytes()
    }

    /// Bytes from one pixel to the next in a row.
    pub fn pixel_stride(&self) -> usize {
        self.block() * self.element_bytes()
    }

    /// Bytes from one row of pixels to the next.
    pub fn row_stride(&self) -> usize {
        let [.., width] = self.image();
        width * self.pixel_stride()
    }

    /// Bytes from one channel block to the next; in the plain layout, from one channel to the next.
    pub fn block_stride(&self) -> usize {
        let [.., height, _] = self.image();
        height * self.row_stride()
    }
}

/// What the elements of a value lie in memory as. What enters or leaves as another element is f32 in between. Whole numbers of 8 bits are bytes in blocks, which kernels read and
/// write whole; in plain memory, and where they have more bits, they lie as f32, which holds them exactly.
pub(crate) fn stored(element: Element, layout: Layout) -> Element {
    match (element, layout) {
        (Element::U8 | Element::I8, Layout::Blocked { .. }) => element,
        (Element::Bf16, _) => element,
        _ => Element::F32,
    }
}

/// Memory that a value takes.
pub(crate) fn bytes(layout: Layout, shape: &Shape) -> usize {
    match (layout, image(shape)) {
        (Layout::Blocked { block }, Some([n, c, h, w])) => {
            n * c.next_multiple_of(block) * h * w * shape.element().bytes()
        }
        _ => shape.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_follow_from_block_and_element() {
        let strides =
            |v: &View| [v.element_bytes(), v.pixel_stride(), v.row_stride(), v.block_stride(), v.batch_stride];
        let place = Place::Buffer(BufferId(0));
        let bytes_of_images = Shape::of(Element::U8, [2, 10, 3, 5]);
        let blocked = View::whole(place, Layout::Blocked { block: 4 }, &bytes_of_images);
        assert_eq!((blocked.block(), blocked.blocks()), (4, 3));
        assert_eq!(strides(&blocked), [1, 4, 20, 60, 180]);
        assert_eq!(blocked.channels(8, &Shape::of(Element::U8, [2, 2, 3, 5])).offset, 120);
        assert_eq!(bytes(Layout::Blocked { block: 4 }, &bytes_of_images), 360);
        let plain = View::whole(place, Layout::Plain, &Shape::new([2, 10, 3, 5]));
        assert_eq!((plain.block(), plain.blocks()), (1, 10));
        assert_eq!(strides(&plain), [4, 4, 20, 60, 600]);
        let vector = View::whole(place, Layout::Blocked { block: 8 }, &Shape::new([3, 10]));
        assert_eq!(strides(&vector), [4, 32, 32, 32, 64]);
    }
}
