//! How work over the pixels of a batch is cut into parts.
//!
//! Sums of each channel over all images and pixels are made part by part, and then the parts' sums are added in order.
//! The cuts follow from the number of images and pixels alone: neither threads nor the vector unit have a part in the
//! order of additions.
//!
//! ```text
//! few large images     | image 0    |     | image 1    |     a part is some pixels of one image
//! many small images    | image 0, 1, 2, 3 | image 4, …       a part is some images
//! ```

/// Pixels of a part of a sum at least, unless there are fewer: a block of 16 channels has 256 KiB of them.
const LEAST: usize = 4096;
/// Parts of a sum at most.
const MOST: usize = 32;

/// A batch's pixels in parts of equal size, but for the last of the batch or of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parts {
    images: usize,
    /// Of an image.
    pixels: usize,
    /// Images of a part; 1 where it has not all pixels of an image.
    part_images: usize,
    part_pixels: usize,
}

/// Parts of equal size, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index of the first part.
    pub first: usize,
    pub count: usize,
    /// Images and pixels of a part.
    pub images: usize,
    pub pixels: usize,
    /// Parts that each image has in this run: part `i` begins in image `i / per_image · images`, counted from
    /// `first_image`, at pixel `i % per_image · pixels`, counted from `first_pixel`.
    pub per_image: usize,
    pub first_image: usize,
    pub first_pixel: usize,
}

impl Parts {
    /// The parts of a sum over so many images of so many pixels.
    pub(crate) fn of_sum(images: usize, pixels: usize) -> Parts {
        let wanted = (images * pixels / LEAST).clamp(1, MOST);
        Parts::of_size(images, pixels, (images * pixels).div_ceil(wanted))
    }

    /// Parts of about `size` pixels.
    pub(crate) fn of_size(images: usize, pixels: usize, size: usize) -> Parts {
        if size >= pixels {
            let part_images = (size / pixels).clamp(1, images);
            let part_images = images.div_ceil(images.div_ceil(part_images));
            return Parts { images, pixels, part_images, part_pixels: pixels };
        }
        let part_pixels = pixels.div_ceil(pixels.div_ceil(size.max(1)));
        Parts { images, pixels, part_images: 1, part_pixels }
    }

    /// How many parts there are.
    pub(crate) fn count(&self) -> usize {
        self.runs().iter().map(|run| run.count).sum()
    }

    /// All parts, by their sizes.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let Parts { images, pixels, part_images, part_pixels } = *self;
        let [whole_images, whole_pixels] = [images / part_images, pixels / part_pixels];
        let whole = Run {
            first: 0,
            count: whole_images * whole_pixels,
            images: part_images,
            pixels: part_pixels,
            per_image: whole_pixels,
            first_image: 0,
            first_pixel: 0,
        };
        let first = whole.count;
        let rest = match (images % part_images, pixels % part_pixels) {
            (0, 0) => None,
            (0, rest) => {
                Some(Run { first, count: images, pixels: rest, per_image: 1, first_pixel: pixels - rest, ..whole })
            }
            (rest, _) => Some(Run { first, count: 1, images: rest, per_image: 1, first_image: images - rest, ..whole }),
        };
        [whole].into_iter().chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each pixel of each image is in a part.
    fn covered(parts: &Parts) -> Vec<usize> {
        let mut times = vec![0; parts.images * parts.pixels];
        let mut index = 0;
        for run in parts.runs() {
            assert_eq!(run.first, index, "{parts:?}");
            index += run.count;
            for part in 0..run.count {
                let image = run.first_image + part / run.per_image * run.images;
                let pixel = run.first_pixel + part % run.per_image * run.pixels;
                for image in image..image + run.images {
                    (pixel..pixel + run.pixels).for_each(|pixel| times[image * parts.pixels + pixel] += 1);
                }
            }
        }
        times
    }

    #[test]
    fn every_pixel_is_in_one_part() {
        for (images, pixels) in [(1, 1), (1, 5000), (3, 20_000), (128, 64), (129, 64), (7, 4096), (1000, 1), (5, 9999)]
        {
            let sum = Parts::of_sum(images, pixels);
            let sizes = [1, 7, 64, 1000, 5000, 1 << 20].map(|size| Parts::of_size(images, pixels, size));
            for parts in [sum].into_iter().chain(sizes) {
                assert!(covered(&parts).iter().all(|&times| times == 1), "{parts:?}");
            }
            assert!(sum.count() <= 2 * MOST, "{sum:?}");
        }
    }

    #[test]
    fn small_sums_are_not_cut() {
        assert_eq!(Parts::of_sum(16, 49).count(), 1);
        assert_eq!(Parts::of_sum(128, 64).count(), 2);
        assert_eq!(Parts::of_sum(16, 112 * 112).count(), 32);
    }
}
