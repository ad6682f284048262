//! Bilinear resizing with antialiasing, as Pillow does it for 8-bit images: level by level the same.
//!
//! Each output pixel is a weighted sum of the input pixels under a triangle that is as wide as the
//! reduction; columns first, then rows, with 8-bit values in between and weights of 22 bits.

use super::Picture;

/// Fraction bits of the weights: sums of 8-bit levels then just fit 32 bits.
const PRECISION: u32 = 22;

/// The input pixels that one output pixel sums, from `first` on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes to exactly `width` × `height`.
pub(crate) fn bilinear(picture: &Picture, width: usize, height: usize) -> Picture {
    if [width, height] == [picture.width, picture.height] {
        return picture.clone();
    }
    let narrow = match picture.channels {
        3 => resize_columns::<3>(picture, width),
        _ => resize_columns::<1>(picture, width),
    };
    resize_rows(&narrow, height)
}

fn resize_columns<const CHANNELS: usize>(picture: &Picture, width: usize) -> Picture {
    if width == picture.width {
        return picture.clone();
    }
    let taps = taps(picture.width, width);
    let mut levels = Vec::with_capacity(width * picture.height * CHANNELS);
    for row in picture.levels.as_chunks::<CHANNELS>().0.chunks_exact(picture.width) {
        for tap in &taps {
            let mut sums = [0; CHANNELS];
            for (pixel, &weight) in row[tap.first..].iter().zip(&tap.weights) {
                add(&mut sums, pixel, weight);
            }
            levels.extend(sums.map(rounded));
        }
    }
    Picture { width, levels, ..*picture }
}

fn resize_rows(picture: &Picture, height: usize) -> Picture {
    if height == picture.height {
        return picture.clone();
    }
    let length = picture.width * picture.channels;
    let mut levels = Vec::with_capacity(length * height);
    let mut sums = vec![0; length];
    for tap in taps(picture.height, height) {
        sums.fill(0);
        let rows = picture.levels[tap.first * length..].chunks_exact(length);
        rows.zip(&tap.weights).for_each(|(row, &weight)| add(&mut sums, row, weight));
        levels.extend(sums.iter().copied().map(rounded));
    }
    Picture { height, levels, ..*picture }
}

fn add(sums: &mut [i32], levels: &[u8], weight: i32) {
    sums.iter_mut().zip(levels).for_each(|(sum, &level)| *sum += i32::from(level) * weight);
}

fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let fixed = |w: &f64| (w * f64::from(1 << PRECISION) + 0.5) as i32;
    let taps = shares(from, to).map(|(first, weights)| Taps { first, weights: weights.iter().map(fixed).collect() });
    taps.collect()
}

/// For each of `to` pixels, the shares of the pixels of which it is a sum, of `from` altogether, and which is the first.
pub(crate) fn shares(from: usize, to: usize) -> impl Iterator<Item = (usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    // Enlarging interpolates between two neighbours; reducing widens the triangle.
    let reach = scale.max(1.0);
    (0..to).map(move |i| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let triangle = |i: usize| (1.0 - ((i as f64 - center + 0.5) / reach).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(triangle).collect();
        let total: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|w| w / total).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, channels: usize, level: impl Fn(usize, usize, usize) -> u8) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let levels = pixels.flat_map(|(x, y)| (0..channels).map(|c| level(x, y, c)).collect::<Vec<_>>()).collect();
        Picture { width, height, channels, levels }
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let p = picture(7, 5, 3, |x, y, c| (x * 31 + y * 7 + c) as u8);
        assert_eq!(bilinear(&p, 7, 5), p);
    }

    #[test]
    fn an_even_reduction_averages_under_the_triangle() {
        let p = picture(4, 1, 1, |x, _, _| [10, 20, 30, 40][x]);
        // Half the size: weights 1 3 3 1, of which the border leaves 3 3 1: 120 / 7 and 230 / 7.
        assert_eq!(bilinear(&p, 2, 1).levels, [17, 33]);
    }

    /// Against what Pillow made of the same synthetic picture; see tests/pillow/make.py. Some versions
    /// of Pillow begin with the rows where these shrink much more, which may round a level otherwise.
    #[test]
    fn pillow_agrees_level_by_level() {
        let source = picture(61, 47, 3, |x, y, c| ((x * x * 3 + y * 11 * (c + 1) + x * y * (c + 2)) % 256) as u8);
        let cases: [(usize, usize, u8, &[u8]); 5] = [
            (20, 15, 0, include_bytes!("../../tests/pillow/20x15.raw")),
            (61, 16, 0, include_bytes!("../../tests/pillow/61x16.raw")),
            (97, 90, 0, include_bytes!("../../tests/pillow/97x90.raw")),
            (7, 90, 0, include_bytes!("../../tests/pillow/7x90.raw")),
            (97, 30, 1, include_bytes!("../../tests/pillow/97x30.raw")),
        ];
        for (width, height, tolerance, expected) in cases {
            let found = bilinear(&source, width, height).levels;
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(tolerance), "{width}x{height}: {worst:?}");
        }
    }
}
