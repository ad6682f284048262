//! What ops that take boxes of images share: how boxes are written, and which image each is of.

use super::grid_sample::MAX_PIXELS;
use super::images::Images;
use super::{ShapeError, image_shape, indices, positive};
use crate::tensor::{Shape, Tensor};

/// Pixels of an image along an axis at most, and bins of a box: tables of a box hold both.
const MOST: usize = 1 << 16;

/// The result's shape, `[R, C, height, width]`, of images and boxes.
pub(super) fn shape(name: &str, inputs: &[&Shape], size: [usize; 2], scale: f32) -> Result<Shape, ShapeError> {
    let [n, c, h, w] = image_shape(inputs, 0, name)?;
    positive("size", &size)?;
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(ShapeError::new(format!("the scale is a number above 0, not {scale}")).param("scale"));
    }
    let boxes = match *inputs[1].dims() {
        [boxes, 5] => boxes,
        [boxes, 4] if n == 1 => boxes,
        [_, 4] => {
            let message =
                format!("boxes [R, 4] are of one image, not of {n}: those of several are [R, 5], the image first");
            return Err(ShapeError::new(message).operand(1).between_operands());
        }
        _ => return Err(ShapeError::new(format!("boxes are [R, 4] or [R, 5], not {}", inputs[1])).operand(1)),
    };
    if [h, w, size[0], size[1]].iter().any(|&s| s > MOST) || h * w > MAX_PIXELS {
        return Err(ShapeError::new("more pixels or bins than netc takes").param("size"));
    }
    indices::check_size(n)?;
    Ok([boxes, c, size[0], size[1]].into())
}

/// Boxes are not the images' batch: their number is another.
pub(super) fn images(images: &[Images]) -> Result<Images, String> {
    match images.iter().all(|&i| i == Images::Nowhere) {
        true => Ok(Images::Nowhere),
        false => Err("its boxes are counted over all images".into()),
    }
}

/// The image that a box is of, and its corners `[y1, x1]` and `[y2, x2]`.
pub(super) fn region(boxes: &Tensor, row: usize, images: usize) -> (usize, [[f32; 2]; 2]) {
    let columns = boxes.shape()[1];
    let row = &boxes.data()[row * columns..][..columns];
    let image = if columns == 5 { indices::place(row[0].into(), images) } else { 0 };
    let corners = &row[columns - 4..];
    (image, [[corners[1], corners[0]], [corners[3], corners[2]]])
}
