//! Picture files → the input of a network, as a spec's `preprocess` says.
//!
//! ```text
//! file ─read─▶ Picture ─resize─▶ ─crop─▶ ─levels to numbers─▶ f32, planar (channel, row, column)
//! ```
//!
//! The conventions are those of Pillow and torchvision, since the weights were made with them. What
//! an image network gives becomes a picture again by [`picture`] and [`encode`].
//!
//! One convention is not theirs: a picture is turned as its EXIF orientation says. Cameras store pictures as the sensor
//! lies, and networks were trained on upright ones; viewers and OpenCV turn them, Pillow's `open` and torchvision do not
//! ([`Exif::Ignored`] is as these).

pub(crate) mod resize;
mod whole;

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder};

use crate::kind::{LOOKED_AT, kind_of};
use crate::memory::size;
use crate::opened;
use crate::preprocess::{Color, Preprocess, Resize, WrongStep};

/// Largest width or height that is read.
pub(crate) const MAX_SIDE: u32 = 1 << 15;
/// Most pixels that resizing may make: a narrow strip, resized by its shorter side, has no other bound.
pub(crate) const MAX_PIXELS: usize = 1 << 26;
/// Bytes that reading one picture may take, where nobody says otherwise: some 80 million pixels of
/// three channels.
pub(crate) const DEFAULT_MEMORY: u64 = 1 << 30;

/// A picture of 8-bit levels; channels (1 or 3) are innermost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 for luminance, 3 for red, green and blue.
    pub channels: usize,
    /// `height · width · channels` levels from 0 to 255, row by row, a pixel's channels side by side.
    pub levels: Vec<u8>,
}

/// The formats that are read, for messages.
const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF, TIFF or PNM";

/// What files of these formats are called.
pub(crate) const EXTENSIONS: [&str; 11] =
    ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm"];

/// The formats that are written: those that browsers show.
const WRITTEN: [::image::ImageFormat; 3] =
    [::image::ImageFormat::Png, ::image::ImageFormat::Jpeg, ::image::ImageFormat::WebP];

/// A picture that cannot become an input.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum ImageError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    /// The contents are of no format that netc reads.
    #[error("{}: this is no {FORMATS} picture{}", path.display(), kind.map_or(String::new(), |k| format!(", it is {k}")))]
    Format { path: PathBuf, kind: Option<&'static str> },
    /// The file ends before the picture does.
    #[error("{}: the image is cut short: the file ends before it does", path.display())]
    Cut { path: PathBuf },
    /// The picture is damaged, or of a kind that the format's decoder does not know.
    #[error("{}: the image cannot be decoded: {message}", path.display())]
    Decode { path: PathBuf, message: String },
    /// After all steps the picture has another size than the input, or another number of channels.
    #[error("preprocessing gives {found} images, the network takes {expected} (channels, height, width)")]
    Size { expected: String, found: String },
    /// A step would make a picture of more pixels than netc makes.
    #[error("preprocessing would make an image of {width}×{height} pixels")]
    TooLarge { width: usize, height: usize },
    /// Corners are asked for of pictures that have no more pixels than a corner.
    #[error("there is no room for corners: pictures are {height}×{width} when they are cut, as large as a crop")]
    NoRoom { height: usize, width: usize },
    /// Corners would be nothing but border.
    #[error("a border of {border} pixels leaves nothing of the picture in a corner of {height}×{width}")]
    Border { border: usize, height: usize, width: usize },
    /// The format that the name says cannot hold the picture.
    #[error("{}: the picture cannot be encoded: {message}", path.display())]
    Encode { path: PathBuf, message: String },
    /// The name says no format that netc writes.
    #[error("{}: pictures are written as .png, .jpg or .webp", path.display())]
    Extension { path: PathBuf },
    /// A step of the preprocessing cannot be carried out.
    #[error(transparent)]
    Steps(#[from] WrongStep),
    /// Reading the picture would take `needed` bytes, of which `limit` are allowed. Nothing was decoded.
    #[error(
        "{}: a picture of {width}×{height} pixels takes {} of memory, more than the {} that it may take",
        path.display(),
        size(*needed),
        size(*limit)
    )]
    Memory { path: PathBuf, width: u32, height: u32, needed: u64, limit: u64 },
}

impl Picture {
    /// Reads a PNG, JPEG, WebP, BMP, GIF (its first picture), TIFF (its first page) or PNM file; what it is, is seen from its
    /// contents. The picture is turned as its EXIF orientation says.
    ///
    /// # Errors
    /// Where the file is none of these, is damaged or cut, is larger than 32768 pixels on a side, or takes
    /// more than 1 GiB of memory to decode.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        read_within(path.as_ref(), Exif::Heeded, DEFAULT_MEMORY)
    }

    /// As [`Self::read`], of a file's bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        decode(io::Cursor::new(bytes), Path::new("<bytes>"), Exif::Heeded, DEFAULT_MEMORY)
    }

    /// The input of a network, of `shape` `[channels, height, width]`, row-major: the picture after all steps.
    ///
    /// # Errors
    /// Where the steps do not end in that size.
    pub fn prepare(&self, preprocess: &Preprocess, shape: [usize; 3]) -> Result<Vec<f32>, ImageError> {
        preprocess.check(shape)?;
        let [_, height, width] = shape;
        // What does not fit in the end is not resized first: a narrow picture may become a very long one.
        let [high, wide] = preprocess.center_crop.unwrap_or_else(|| {
            let (wide, high) = resized_size(self, preprocess, shape);
            [high, wide]
        });
        if (wide, high) != (width, height) {
            return Err(wrong_size([channels_of(shape), high, wide], shape));
        }
        numbers(&sized(self, preprocess, shape)?, preprocess, shape)
    }

    /// Ten inputs of one picture, for averaging (Krizhevsky et al. 2012, section 4.1): the four
    /// corners and the centre, then the mirror images of these.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn ten_crop(&self, preprocess: &Preprocess, shape: [usize; 3]) -> Result<Vec<f32>, ImageError> {
        self.crops(preprocess, shape, &Crops { mirrored: true, ..Crops::default() })
    }

    /// Several inputs of one picture: its four corners and its centre, and maybe the mirror images of these. They are cut
    /// of what `resize` gives, in place of the crop at the centre.
    ///
    /// # Errors
    /// As [`Self::prepare`], and where the picture is smaller than a crop.
    pub(crate) fn crops(
        &self,
        preprocess: &Preprocess,
        shape: [usize; 3],
        crops: &Crops,
    ) -> Result<Vec<f32>, ImageError> {
        let preprocess = &crops.resizing(preprocess, shape);
        preprocess.check(shape)?;
        let [_, height, width] = shape;
        let (wide, high) = resized_size(self, preprocess, shape);
        let (wide, high) = (wide.saturating_add(2 * crops.border), high.saturating_add(2 * crops.border));
        let (Some(right), Some(bottom)) = (wide.checked_sub(width), high.checked_sub(height)) else {
            return Err(wrong_size([channels_of(shape), high, wide], shape));
        };
        if crops.border > 0 && wide.saturating_mul(high) > MAX_PIXELS {
            return Err(ImageError::TooLarge { width: wide, height: high });
        }
        let mut picture = resized(self, preprocess, shape)?;
        if crops.border > 0 {
            // Black of what the network sees.
            picture = picture.framed(wide, high, if preprocess.invert { 255 } else { 0 });
        }
        let mut inputs = vec![];
        for picture in [Some(picture.clone()), crops.mirrored.then(|| picture.mirrored())].into_iter().flatten() {
            for (x, y) in [(0, 0), (right, 0), (0, bottom), (right, bottom)] {
                inputs.extend(numbers(&picture.crop(x, y, width, height), preprocess, shape)?);
            }
            inputs.extend(numbers(&picture.center_crop(width, height), preprocess, shape)?);
        }
        Ok(inputs)
    }
}

/// How several inputs are cut of one picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crops {
    /// Mirror images are inputs, too.
    pub mirrored: bool,
    /// The shorter side of the picture before it is cut, instead of what the preprocessing says.
    pub resize: Option<usize>,
    /// Black pixels around the picture before it is cut.
    pub border: usize,
}

impl Crops {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        if self.mirrored { 10 } else { 5 }
    }

    fn resizing(&self, preprocess: &Preprocess, [_, height, width]: [usize; 3]) -> Preprocess {
        match self.resize {
            Some(side) => Preprocess {
                resize: Some(Resize::ShorterSide(side)),
                center_crop: Some([height, width]),
                ..preprocess.clone()
            },
            None => preprocess.clone(),
        }
    }

    /// Whether there is room for corners, as far as this is known before there are pictures.
    ///
    /// # Errors
    /// Where pictures have the size of a crop when they are cut, or a corner would be nothing but border.
    pub(crate) fn check(&self, preprocess: &Preprocess, shape: [usize; 3]) -> Result<(), ImageError> {
        let [_, height, width] = shape;
        let preprocess = self.resizing(preprocess, shape);
        let size = match preprocess.resize {
            Some(Resize::Exact(size)) => Some(size),
            Some(Resize::ShorterSide(side)) => Some([side; 2]),
            None if preprocess.center_crop.is_none() => Some([height, width]),
            None => None,
        };
        if size.is_some_and(|[high, wide]| high <= height && wide <= width) {
            self.check_border([height, width])?;
        }
        Ok(())
    }

    /// As [`Self::check`], for pictures that have the size of a crop but for their border.
    ///
    /// # Errors
    /// Where there is no border, or a corner would be nothing else.
    pub(crate) fn check_border(&self, [height, width]: [usize; 2]) -> Result<(), ImageError> {
        match self.border {
            0 => Err(ImageError::NoRoom { height, width }),
            border if border >= height.min(width) => Err(ImageError::Border { border, height, width }),
            _ => Ok(()),
        }
    }
}

/// Whether a picture is turned as its EXIF orientation says, as viewers and OpenCV show it, or its rows
/// and columns stay as the file has them, as Pillow's `Image.open` and torchvision read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exif {
    /// The picture is turned.
    Heeded,
    /// Rows and columns stay.
    Ignored,
}

/// As [`Picture::read`], with another bound for the memory that it takes. The picture's size decides, before
/// anything is decoded.
///
/// # Errors
/// As [`Picture::read`].
pub(crate) fn read_within(path: &Path, exif: Exif, memory: u64) -> Result<Picture, ImageError> {
    let file = opened::open(path).map_err(|cause| ImageError::Io { path: path.into(), cause })?;
    decode(BufReader::new(file), path, exif, memory)
}

/// What a decoder says, where it is words and no value of a program.
fn plain(message: &str) -> String {
    match message.contains(['{', '(']) {
        true => "its file is damaged".into(),
        false => message.into(),
    }
}

/// Whether a decoder came to the file's end too early. Each says so in its own way.
fn is_cut(error: &::image::ImageError) -> bool {
    if let ::image::ImageError::IoError(e) = error {
        return e.kind() == io::ErrorKind::UnexpectedEof;
    }
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
            || cause.to_string().to_lowercase().contains("unexpected end of file")
    })
}

/// A picture from a stream; errors call it by `path`.
///
/// # Errors
/// As [`read_within`].
pub fn decode(from: impl BufRead + Seek, path: &Path, exif: Exif, memory: u64) -> Result<Picture, ImageError> {
    let io_error = |cause| ImageError::Io { path: path.into(), cause };
    let decode_error = |error: ::image::ImageError| match error {
        error if is_cut(&error) => ImageError::Cut { path: path.into() },
        ::image::ImageError::Unsupported(_) => {
            let message = "its pixels are stored in a way that netc does not read (save it as PNG)".into();
            ImageError::Decode { path: path.into(), message }
        }
        error => ImageError::Decode { path: path.into(), message: plain(&error.to_string()) },
    };
    let reader = ::image::ImageReader::new(from).with_guessed_format().map_err(io_error)?;
    let format = reader.format().filter(::image::ImageFormat::reading_enabled);
    let mut file = reader.into_inner();
    let Some(format) = format else {
        let mut begin = vec![];
        file.rewind().and_then(|()| file.take(LOOKED_AT as u64).read_to_end(&mut begin)).map_err(io_error)?;
        return Err(ImageError::Format { path: path.into(), kind: kind_of(&begin) });
    };
    if !whole::is_whole(&mut file, format).map_err(io_error)? {
        return Err(ImageError::Cut { path: path.into() });
    }
    let mut reader = ::image::ImageReader::with_format(file, format);
    let mut limits = ::image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    // A decoder has tables of its own, whatever the picture's size is.
    limits.max_alloc = Some(memory.max(1 << 24));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(ImageError::Decode { path: path.into(), message: format!("it has {width}×{height} pixels") });
    }
    let needed = decoding_memory(width, height, decoder.color_type());
    if needed > memory {
        return Err(ImageError::Memory { path: path.into(), width, height, needed, limit: memory });
    }
    // What cannot be read of EXIF says nothing.
    let orientation = if exif == Exif::Heeded { decoder.orientation().ok() } else { None };
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(decode_error)?;
    decoded.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(Picture::new(decoded))
}

/// Bytes of a picture as it is decoded, of what its decoder keeps beside it, and of its levels as
/// they are then and as the network's number of channels.
fn decoding_memory(width: u32, height: u32, color: ::image::ColorType) -> u64 {
    let per_pixel = 2 * u64::from(color.bytes_per_pixel()) + 6;
    u64::from(width) * u64::from(height) * per_pixel
}

/// A picture of `[channels, height, width]` numbers, of which `low` becomes level 0 and `high` level
/// 255. Three channels are in the order of `color`.
pub(crate) fn picture(
    values: &[f32],
    [channels, height, width]: [usize; 3],
    [low, high]: [f32; 2],
    color: Color,
) -> Picture {
    let plane = width * height;
    let level = |v: f32| ((v - low) / (high - low) * 255.0).round().clamp(0.0, 255.0) as u8;
    let source = |channel| if color == Color::Bgr { channels - 1 - channel } else { channel };
    let pixel = |i| (0..channels).map(move |c| level(values[source(c) * plane + i]));
    Picture { width, height, channels, levels: (0..plane).flat_map(pixel).collect() }
}

/// Pictures of one size side by side: as many columns as make it about square, the rows from the top. What is left of the
/// last row is black.
pub(crate) fn grid(pictures: &[Picture]) -> Picture {
    let Picture { width, height, channels, .. } = pictures[0];
    let columns = (1..).find(|side| side * side >= pictures.len()).expect("some square is large enough");
    let row = columns * width * channels;
    let mut levels = vec![0; pictures.len().div_ceil(columns) * height * row];
    for (i, picture) in pictures.iter().enumerate() {
        let first = i / columns * height * row + i % columns * width * channels;
        for (y, line) in picture.levels.chunks_exact(width * channels).enumerate() {
            levels[first + y * row..][..line.len()].copy_from_slice(line);
        }
    }
    Picture { width: columns * width, height: pictures.len().div_ceil(columns) * height, channels, levels }
}

/// Whether pictures can be written under this name.
///
/// # Errors
/// Where it says no format that netc writes.
pub(crate) fn check_name(path: &Path) -> Result<(), ImageError> {
    format_of(path).map(drop)
}

fn format_of(path: &Path) -> Result<::image::ImageFormat, ImageError> {
    let format = ::image::ImageFormat::from_path(path).ok().filter(|format| WRITTEN.contains(format));
    format.ok_or_else(|| ImageError::Extension { path: path.into() })
}

/// The bytes of a picture file, of the format that `path` is named for.
///
/// # Errors
/// Where the name says no format that netc writes, or the picture is larger than the format allows.
pub(crate) fn encode(picture: &Picture, path: &Path) -> Result<Vec<u8>, ImageError> {
    use ::image::ExtendedColorType;
    let format = format_of(path)?;
    let color = if picture.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = io::Cursor::new(vec![]);
    let (width, height) = (picture.width as u32, picture.height as u32);
    ::image::write_buffer_with_format(&mut bytes, &picture.levels, width, height, color, format)
        .map_err(|e| ImageError::Encode { path: path.into(), message: e.to_string() })?;
    Ok(bytes.into_inner())
}

/// As [`resized`], and cropped.
pub(crate) fn sized(picture: &Picture, preprocess: &Preprocess, shape: [usize; 3]) -> Result<Picture, ImageError> {
    let picture = resized(picture, preprocess, shape)?;
    let Some([height, width]) = preprocess.center_crop else { return Ok(picture) };
    // Where the picture is smaller, it gets a border first.
    let (wide, high) = (width.max(picture.width), height.max(picture.height));
    if wide.saturating_mul(high) > MAX_PIXELS.max(picture.width * picture.height) {
        return Err(ImageError::TooLarge { width: wide, height: high });
    }
    Ok(picture.center_crop(width, height))
}

/// In the network's number of channels, and resized. A spec that neither resizes nor crops
/// means pictures of the input's size, and gets them.
pub(crate) fn resized(picture: &Picture, preprocess: &Preprocess, shape: [usize; 3]) -> Result<Picture, ImageError> {
    let (width, height) = resized_size(picture, preprocess, shape);
    let picture = if channels_of(shape) == 1 { picture.gray() } else { picture.rgb() };
    if (width, height) == (picture.width, picture.height) {
        return Ok(picture);
    }
    // Columns come first: their result must be small too.
    if width.saturating_mul(height.max(picture.height)) > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(resize::bilinear(&picture, width, height))
}

/// Width and height that [`resized`] gives a picture.
fn resized_size(picture: &Picture, preprocess: &Preprocess, [_, height, width]: [usize; 3]) -> (usize, usize) {
    match preprocess.resize {
        Some(Resize::Exact([height, width])) => (width, height),
        Some(Resize::ShorterSide(side)) => shorter_side(picture, side),
        None if preprocess.center_crop.is_none() => (width, height),
        None => (picture.width, picture.height),
    }
}

/// Channels that a picture has for an input of this shape.
fn channels_of([channels, ..]: [usize; 3]) -> usize {
    if channels == 1 { 1 } else { 3 }
}

/// As torchvision: the longer side is rounded down.
fn shorter_side(picture: &Picture, side: usize) -> (usize, usize) {
    let (width, height) = (picture.width, picture.height);
    let longer = |long: usize, short: usize| (side.saturating_mul(long) / short).max(1);
    if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) }
}

fn numbers(picture: &Picture, preprocess: &Preprocess, shape: [usize; 3]) -> Result<Vec<f32>, ImageError> {
    let channels = shape[0];
    if picture.channels != channels {
        return Err(wrong_size([picture.channels, picture.height, picture.width], shape));
    }
    let per_channel = |values: &[f32], absent| if values.is_empty() { vec![absent; channels] } else { values.to_vec() };
    let (mean, std) = (per_channel(&preprocess.mean, 0.0), per_channel(&preprocess.std, 1.0));
    let scale = preprocess.scale.unwrap_or(1.0);
    let mut values = Vec::with_capacity(picture.levels.len());
    for channel in 0..channels {
        let from = if preprocess.color == Color::Bgr { channels - 1 - channel } else { channel };
        let levels = picture.levels.iter().skip(from).step_by(channels);
        let level = |&l: &u8| f32::from(if preprocess.invert { 255 - l } else { l });
        values.extend(levels.map(|l| (level(l) * scale - mean[channel]) / std[channel]));
    }
    Ok(values)
}

fn wrong_size(found: [usize; 3], expected: [usize; 3]) -> ImageError {
    let text = |[channels, height, width]: [usize; 3]| format!("{channels}×{height}×{width}");
    ImageError::Size { expected: text(expected), found: text(found) }
}

impl Picture {
    /// Transparency is dropped, as Pillow drops it.
    fn new(decoded: DynamicImage) -> Self {
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        let (channels, levels) = match decoded.color().channel_count() {
            1 | 2 => (1, decoded.into_luma8().into_raw()),
            _ => (3, decoded.into_rgb8().into_raw()),
        };
        Self { width, height, channels, levels }
    }

    /// Luminance by ITU-R 601, in Pillow's 16-bit arithmetic.
    fn gray(&self) -> Picture {
        if self.channels == 1 {
            return self.clone();
        }
        let luminance = |p: &[u8]| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        Picture { channels: 1, levels: self.levels.chunks_exact(3).map(luminance).collect(), ..*self }
    }

    fn rgb(&self) -> Picture {
        if self.channels == 3 {
            return self.clone();
        }
        Picture { channels: 3, levels: self.levels.iter().flat_map(|&l| [l; 3]).collect(), ..*self }
    }

    /// The part from column `x` and row `y` on.
    fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Picture {
        let row = |y: usize| &self.levels[(y * self.width + x) * self.channels..][..width * self.channels];
        Picture { width, height, channels: self.channels, levels: (y..y + height).flat_map(row).copied().collect() }
    }

    /// The central part; where it is larger than the picture, with a black border.
    fn center_crop(&self, width: usize, height: usize) -> Picture {
        if self.width < width || self.height < height {
            let (wide, high) = (self.width.max(width), self.height.max(height));
            return self.framed(wide, high, 0).center_crop(width, height);
        }
        let centered = |room: usize| {
            // Half rounds to even, as Python rounds.
            let half = room / 2;
            if room % 4 == 3 { half + 1 } else { half }
        };
        self.crop(centered(self.width - width), centered(self.height - height), width, height)
    }

    fn framed(&self, width: usize, height: usize, level: u8) -> Picture {
        let (left, top) = ((width - self.width) / 2, (height - self.height) / 2);
        let mut levels = vec![level; width * height * self.channels];
        let rows = self.levels.chunks_exact(self.width * self.channels);
        for (y, row) in rows.enumerate() {
            levels[((top + y) * width + left) * self.channels..][..row.len()].copy_from_slice(row);
        }
        Picture { width, height, channels: self.channels, levels }
    }

    fn mirrored(&self) -> Picture {
        let row = |row: &[u8]| row.chunks_exact(self.channels).rev().flatten().copied().collect::<Vec<u8>>();
        Picture { levels: self.levels.chunks_exact(self.width * self.channels).flat_map(row).collect(), ..*self }
    }
}

#[cfg(test)]
mod tests;
