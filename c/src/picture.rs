//! Pictures as inputs.

use netc_lib::{ImageError, Picture};

use crate::error::{Failure, Result, call, netc_status};
use crate::model::{elements, netc_model, netc_tensor, shape};

/// A picture in memory, which the caller owns.
#[repr(C)]
#[allow(non_camel_case_types, reason = "C's names")]
#[derive(Clone, Copy, Debug)]
pub struct netc_picture {
    /// Levels from 0 to 255, row by row: of each pixel red, green and blue in this order (OpenCV has them the other way round), or its
    /// gray alone; no alpha.
    pub levels: *const u8,
    /// Rows, at most 32768, as columns.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// 3 for red, green and blue, 1 for gray.
    pub channels: usize,
    /// Bytes from where a row begins to where the next does; 0 where they follow each other without gaps.
    pub stride: usize,
}

/// Largest height or width of a picture.
const MAX_SIDE: usize = 1 << 15;

impl netc_picture {
    /// # Safety
    /// The levels are as many as the sizes say.
    unsafe fn read(&self) -> Result<Picture> {
        let Self { levels, height, width, channels, stride } = *self;
        if levels.is_null() {
            return Err(Failure::invalid("the picture's levels are a null pointer"));
        }
        if !matches!(channels, 1 | 3) || ![height, width].iter().all(|side| (1..=MAX_SIDE).contains(side)) {
            return Err(Failure::invalid(format!(
                "a picture has 1 or 3 channels and from 1 to {MAX_SIDE} rows and columns, not {channels} and {height} by {width}"
            )));
        }
        let row = width * channels;
        let stride = if stride == 0 { row } else { stride };
        if stride < row || stride > isize::MAX as usize / height {
            return Err(Failure::invalid(format!("rows of {row} bytes do not lie {stride} bytes apart")));
        }
        let mut whole = vec![];
        whole
            .try_reserve_exact(row * height)
            .map_err(|error| Failure::new(netc_status::NETC_OUT_OF_MEMORY, format!("the picture's levels: {error}")))?;
        for y in 0..height {
            // SAFETY: by this function's own contract; behind the last row there need be nothing.
            whole.extend_from_slice(unsafe { std::slice::from_raw_parts(levels.add(y * stride), row) });
        }
        Ok(Picture { width, height, channels, levels: whole })
    }
}

/// Makes an input of a picture, by the steps that the network's text states (`preprocess`), else resized to the input's size, with
/// numbers from 0 to 1, or levels as they are where the input has whole numbers. Orientation in EXIF is not read: turn the picture
/// first.
///
/// `out` is a tensor for one image, of the input's element and of one of the sizes that the model is compiled for; of a batch, its
/// data lead to where one image lies. Thread-safe.
///
/// # Safety
/// No other thread frees the model meanwhile; `picture` is null or leads to a picture of as many levels as its sizes say, `out` is
/// null or leads to a tensor with as much room as its sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netc_model_preprocess(
    model: *const netc_model,
    index: usize,
    picture: *const netc_picture,
    out: *const netc_tensor,
) -> netc_status {
    call(|| {
        // SAFETY: by this function's own contract.
        let (model, picture, out) = unsafe { (&netc_model::borrow(model)?.model, picture.as_ref(), out.as_ref()) };
        let picture = picture.ok_or_else(|| Failure::invalid("the picture is a null pointer"))?;
        let out = out.ok_or_else(|| Failure::invalid("there is no place for the input"))?;
        let none = || Failure::invalid(format!("there is no input {index}: there are {}", model.inputs().len()));
        let first = model.inputs().get(index).ok_or_else(none)?;
        let asked = shape(out).and_then(|sizes| sizes.get(1..));
        let mut of_sizes = model.sizes().map(|size| &size.inputs()[index]);
        let port = of_sizes.find(|port| asked.is_some() && asked == port.shape().get(1..)).unwrap_or(first);
        let (Some(usual), &[_, channels, height, width]) = (port.usual_preprocess(), port.shape()) else {
            return Err(Failure::invalid(format!("{}: the input is no picture but {:?}", port.name(), port.shape())));
        };
        let count = elements(port, out, true)?;
        if count != channels * height * width {
            let message = format!("{}: the tensor is for several images, a picture is one", port.name());
            return Err(Failure::new(netc_status::NETC_BAD_TENSOR, message));
        }
        let stated = model.about().preprocess.get(index).cloned().flatten();
        // SAFETY: by this function's own contract.
        let picture = unsafe { picture.read() }?;
        let values = picture.prepare(&stated.unwrap_or(usual), [channels, height, width]).map_err(of_picture)?;
        // SAFETY: as above; `elements` compared the tensor with the port.
        port.narrow(&values, unsafe {
            std::slice::from_raw_parts_mut(out.data.cast(), count * port.element().bytes())
        });
        Ok(())
    })
}

fn of_picture(error: ImageError) -> Failure {
    let is_memory = matches!(error, ImageError::TooLarge { .. } | ImageError::Memory { .. });
    Failure::new(if is_memory { netc_status::NETC_OUT_OF_MEMORY } else { netc_status::NETC_INVALID_ARGUMENT }, error)
}
