use super::*;

/// Level = 10 · row + column, and 100 more for each further channel.
fn ramp(width: usize, height: usize, channels: usize) -> Picture {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| 10 * y + x));
    let levels = pixels.flat_map(|l| (0..channels).map(move |c| (l + 100 * c) as u8)).collect();
    Picture { width, height, channels, levels }
}

#[test]
fn numbers_are_planar_scaled_and_normalised() {
    let preprocess =
        Preprocess { scale: Some(0.5), mean: vec![1.0, 2.0, 3.0], std: vec![1.0, 1.0, 4.0], ..Preprocess::default() };
    let values = Picture::prepare(&ramp(2, 2, 3), &preprocess, [3, 2, 2]).unwrap();
    let expected = [
        [0.0, 1.0, 10.0, 11.0].map(|l| l * 0.5 - 1.0),
        [100.0, 101.0, 110.0, 111.0].map(|l| l * 0.5 - 2.0),
        [200.0, 201.0, 210.0, 211.0].map(|l| (l * 0.5 - 3.0) / 4.0),
    ];
    assert_eq!(values, expected.concat());
}

#[test]
fn colours_in_other_orders() {
    let with = |color, invert| Preprocess { color, invert, ..Preprocess::default() };
    let pixel = Picture { width: 1, height: 1, channels: 3, levels: vec![10, 20, 30] };
    assert_eq!(Picture::prepare(&pixel, &with(Color::Bgr, false), [3, 1, 1]).unwrap(), [30.0, 20.0, 10.0]);
    assert_eq!(Picture::prepare(&pixel, &with(Color::Rgb, true), [3, 1, 1]).unwrap(), [245.0, 235.0, 225.0]);
    // 0.299 · 10 + 0.587 · 20 + 0.114 · 30 = 18.15
    assert_eq!(Picture::prepare(&pixel, &with(Color::Gray, false), [1, 1, 1]).unwrap(), [18.0]);
    let gray = Picture { width: 1, height: 1, channels: 1, levels: vec![7] };
    assert_eq!(Picture::prepare(&gray, &with(Color::Rgb, false), [3, 1, 1]).unwrap(), [7.0; 3]);
}

#[test]
fn luminance_is_pillows() {
    let level = |x: usize, y: usize, c: usize| ((x * x * 3 + y * 11 * (c + 1) + x * y * (c + 2)) % 256) as u8;
    let pixels = (0..47).flat_map(|y| (0..61).map(move |x| (x, y)));
    let levels = pixels.flat_map(|(x, y)| [level(x, y, 0), level(x, y, 1), level(x, y, 2)]).collect();
    let picture = Picture { width: 61, height: 47, channels: 3, levels };
    assert!(picture.gray().levels == include_bytes!("../../tests/pillow/gray.raw"));
}

#[test]
fn the_shorter_side_is_resized_to() {
    assert_eq!(shorter_side(&ramp(640, 427, 1), 256), (383, 256));
    assert_eq!(shorter_side(&ramp(427, 640, 1), 256), (256, 383));
    assert_eq!(shorter_side(&ramp(5000, 1, 1), 3), (15000, 3));
}

#[test]
fn the_centre_rounds_half_to_even() {
    // Rooms of 1, 3, 5 pixels: 0.5 → 0, 1.5 → 2, 2.5 → 2.
    for (width, left) in [(3, 0), (5, 2), (7, 2), (4, 1), (2, 0)] {
        assert_eq!(ramp(width, 1, 1).center_crop(2, 1).levels[0] as usize, left, "{width}");
    }
    let framed = ramp(1, 1, 1).center_crop(3, 3);
    assert_eq!((framed.width, framed.height, framed.levels.len()), (3, 3, 9));
}

#[test]
fn ten_crops_are_corners_centre_and_mirrors() {
    let crops = Picture::ten_crop(
        &ramp(4, 4, 1),
        &Preprocess { center_crop: Some([2, 2]), ..Preprocess::default() },
        [1, 2, 2],
    );
    let first: Vec<f32> = crops.unwrap().chunks(4).map(|c| c[0]).collect();
    assert_eq!(first, [0.0, 2.0, 20.0, 22.0, 11.0, 3.0, 1.0, 23.0, 21.0, 12.0]);
}

/// A picture is made larger first, or gets a border that is black to the network.
#[test]
fn crops_of_larger_and_of_framed_pictures() {
    let (picture, plain) = (ramp(2, 2, 1), Preprocess::default());
    let cut = |crops: Crops, preprocess: &Preprocess| {
        crops.check(preprocess, [1, 2, 2]).unwrap();
        picture.crops(preprocess, [1, 2, 2], &crops).unwrap()
    };
    let five = cut(Crops { border: 1, ..Crops::default() }, &plain);
    assert_eq!(five[..4], [0.0, 0.0, 0.0, 0.0]);
    assert_eq!(five[4..8], [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(five[12..], [11.0, 0.0, 0.0, 0.0, 0.0, 1.0, 10.0, 11.0]);
    let inverted = Preprocess { invert: true, ..plain.clone() };
    assert_eq!(cut(Crops { border: 1, ..Crops::default() }, &inverted)[..4], [0.0, 0.0, 0.0, 255.0]);
    let larger = Crops { mirrored: true, resize: Some(4), border: 0 };
    let of_larger = Preprocess { resize: Some(Resize::Exact([4, 4])), center_crop: Some([2, 2]), ..plain.clone() };
    assert_eq!(cut(larger, &plain), picture.ten_crop(&of_larger, [1, 2, 2]).unwrap());
    for (preprocess, crops) in [(plain.clone(), Crops::default()), (of_larger, Crops { resize: Some(2), ..larger })] {
        assert!(matches!(crops.check(&preprocess, [1, 2, 2]), Err(ImageError::NoRoom { .. })));
        let framed = Crops { border: 2, ..crops };
        assert!(matches!(framed.check(&preprocess, [1, 2, 2]), Err(ImageError::Border { .. })));
    }
}

#[test]
fn sizes_that_do_not_fit_are_told() {
    let crop = |side| Preprocess { center_crop: Some([side; 2]), ..Preprocess::default() };
    let errors = [
        Picture::prepare(&ramp(4, 4, 3), &crop(3), [3, 2, 2]).unwrap_err(),
        Picture::prepare(&ramp(4, 4, 3), &crop(2), [4, 2, 2]).unwrap_err(),
        Picture::ten_crop(&ramp(4, 4, 3), &crop(2), [3, 5, 5]).unwrap_err(),
        Picture::prepare(&ramp(2, 2, 3), &Preprocess { mean: vec![1.0; 2], ..crop(2) }, [3, 2, 2]).unwrap_err(),
    ];
    insta::assert_snapshot!(errors.map(|e| e.to_string()).join("\n"));
}

#[test]
fn a_strip_does_not_take_all_memory() {
    let strip = Picture { width: 1, height: 1 << 15, channels: 1, levels: vec![0; 1 << 15] };
    let resize = |r| Preprocess { resize: Some(r), ..Preprocess::default() };
    for side in [3000, 60_000] {
        let cropped = Preprocess { center_crop: Some([4, 4]), ..resize(Resize::ShorterSide(side)) };
        let error = Picture::prepare(&strip, &cropped, [1, 4, 4]).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
        // What would not fit is not resized at all.
        let error = Picture::prepare(&strip, &resize(Resize::ShorterSide(side)), [1, 4, 4]).unwrap_err();
        assert!(matches!(error, ImageError::Size { .. }), "{error}");
    }
    let crop = |side: usize| Preprocess { center_crop: Some([side, side]), ..Preprocess::default() };
    assert!(matches!(Picture::prepare(&strip, &crop(60_000), [1, 60_000, 60_000]), Err(ImageError::TooLarge { .. })));
    let border = Picture::prepare(&Picture { width: 1 << 15, height: 1, ..strip }, &crop(9000), [1, 9000, 9000]);
    assert!(matches!(border, Err(ImageError::TooLarge { .. })));
}

#[test]
fn steps_that_cannot_be_carried_out_are_refused() {
    let resize = |r| Preprocess { resize: Some(r), ..Preprocess::default() };
    let steps = [
        resize(Resize::ShorterSide(0)),
        resize(Resize::Exact([0, 2])),
        resize(Resize::ShorterSide(usize::MAX)),
        Preprocess { center_crop: Some([0; 2]), ..Preprocess::default() },
        Preprocess { center_crop: Some([usize::MAX, 2]), ..Preprocess::default() },
        Preprocess { mean: vec![0.0; 2], ..Preprocess::default() },
        Preprocess { std: vec![f32::NAN; 3], ..Preprocess::default() },
    ];
    for steps in steps {
        for make in [Picture::prepare, Picture::ten_crop] {
            let made = make(&ramp(2, 2, 3), &steps, [3, 2, 2]);
            assert!(matches!(made, Err(ImageError::Steps(_))), "{steps:?}: {made:?}");
        }
    }
}

/// The header of a PNG of so many gray pixels; no data follow.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let body = [&name[..], data].concat();
        let crc = body.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
    };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let start = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &[&size[..], &[8, 0, 0, 0, 0]].concat())].concat();
    [start, chunk(b"IDAT", &[0x78, 0x9c]), chunk(b"IEND", &[])].concat()
}

/// The header of a lossless WebP: 14 bits a side.
fn webp_header(width: u32, height: u32) -> Vec<u8> {
    let bits = (width - 1) | (height - 1) << 14;
    let data = [&[0x2f][..], &bits.to_le_bytes(), &[0; 9]].concat();
    let chunk = [&b"VP8L"[..], &(data.len() as u32).to_le_bytes(), &data].concat();
    [&b"RIFF"[..], &(4 + chunk.len() as u32).to_le_bytes(), b"WEBP", &chunk].concat()
}

#[test]
fn a_header_does_not_take_all_memory() {
    let read = |bytes: &[u8], memory| decode(io::Cursor::new(bytes), Path::new("p"), Exif::Heeded, memory);
    for header in [png_header(1 << 15, 1 << 15), webp_header(16383, 16383)] {
        let error = read(&header, DEFAULT_MEMORY).unwrap_err();
        assert!(matches!(error, ImageError::Memory { needed, .. } if needed > 2 << 30), "{error}");
        assert!(error.to_string().contains("×"), "{error}");
    }
    // What is small goes on to its data, of which there are none.
    assert!(matches!(read(&png_header(10, 10), 1000), Err(ImageError::Cut { .. } | ImageError::Decode { .. })));
    assert!(matches!(read(&png_header(10, 10), 100), Err(ImageError::Memory { .. })));
}

#[test]
fn without_size_in_the_spec_pictures_are_resized_to_the_input() {
    assert_eq!(Picture::prepare(&ramp(9, 5, 3), &Preprocess::default(), [3, 4, 4]).unwrap().len(), 48);
}

#[test]
fn files_are_recognised_by_their_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    let picture = ::image::RgbaImage::from_fn(3, 2, |x, y| ::image::Rgba([x as u8, y as u8, 7, 0]));
    picture.save_with_format(&path, ::image::ImageFormat::Png).unwrap();
    let read_back = Picture::read(&path).unwrap();
    assert_eq!((read_back.width, read_back.height, read_back.channels), (3, 2, 3));
    assert_eq!(read_back.levels[..6], [0, 0, 7, 1, 0, 7]);

    let png = std::fs::read(&path).unwrap();
    std::fs::write(&path, &png[..png.len() / 2]).unwrap();
    assert!(matches!(Picture::read(&path), Err(ImageError::Cut { .. })));
    std::fs::write(&path, "hello").unwrap();
    assert!(matches!(Picture::read(&path), Err(ImageError::Format { .. })));
    assert!(matches!(Picture::read(folder.path().join("none.png")), Err(ImageError::Io { .. })));
}

/// Every format that is read, of greys and of colours, and cut anywhere.
#[test]
fn pictures_of_every_format() {
    use ::image::{DynamicImage, ImageFormat};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    let colours = ::image::RgbImage::from_fn(5, 3, |x, y| ::image::Rgb([40 * x as u8, 70 * y as u8, 9]));
    for format in [ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Png, ImageFormat::Pnm, ImageFormat::Tiff] {
        for picture in [DynamicImage::from(colours.clone()), DynamicImage::from(colours.clone()).into_luma8().into()] {
            // GIF is written of colours only.
            let stored = if format == ImageFormat::Gif { picture.to_rgb8().into() } else { picture.clone() };
            stored.save_with_format(&path, format).unwrap();
            let read_back = Picture::read(&path).unwrap();
            assert_eq!((read_back.width, read_back.height), (5, 3), "{format:?}");
            let expected =
                if read_back.channels == 3 { picture.to_rgb8().into_raw() } else { picture.to_luma8().into_raw() };
            assert_eq!(read_back.levels, expected, "{format:?}");
            let bytes = std::fs::read(&path).unwrap();
            for length in 0..bytes.len() {
                std::fs::write(&path, &bytes[..length]).unwrap();
                // Formats end in bytes that a picture can do without.
                if let Ok(read_back) = Picture::read(&path) {
                    assert_eq!(read_back.levels, expected, "{format:?}: {length} bytes of {}", bytes.len());
                }
            }
        }
    }
    // Grey floats, as instruments write them: one row of one pixel in a directory of tags, each a number of 16 or 32 bits.
    let tags: [(u16, u16, u32); 9] = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 32),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (278, 3, 1),
        (279, 4, 4),
        (339, 3, 3),
    ];
    let entry = |&(tag, kind, value): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let directory = [&[tags.len() as u8, 0][..], &tags.iter().flat_map(entry).collect::<Vec<u8>>(), &[0; 4]].concat();
    std::fs::write(&path, [b"II*\0\x08\0\0\0", &directory[..], &0.5f32.to_le_bytes()].concat()).unwrap();
    let error = Picture::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("its pixels are stored in a way that netc does not read (save it as PNG)"), "{error}");
}

#[test]
fn a_picture_of_no_pixels_is_none() {
    let decode = |file: &'static str| decode(io::Cursor::new(file), Path::new("a.ppm"), Exif::Heeded, DEFAULT_MEMORY);
    let error = decode("P6\n0 2\n255\n").unwrap_err();
    assert_eq!(error.to_string(), "a.ppm: the image cannot be decoded: it has 0×2 pixels");
    assert_eq!(decode("P6\n1 1\n255\nabc").unwrap().levels, *b"abc");
}

#[test]
fn numbers_become_pictures() {
    let values = [0.0, 0.5, 1.0, 2.0, -1.0, 0.25, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8];
    let made = picture(&values, [3, 2, 2], [0.0, 1.0], Color::Rgb);
    assert_eq!(made.levels[..6], [0, 0, 51, 128, 64, 102]);
    assert_eq!(picture(&values, [3, 2, 2], [0.0, 1.0], Color::Bgr).levels[..3], [51, 0, 0]);
    assert_eq!(picture(&[-1.0, 0.0, 1.0, f32::NAN], [1, 2, 2], [-1.0, 1.0], Color::Gray).levels, [0, 128, 255, 0]);
    let folder = tempfile::tempdir().unwrap();
    // JPEG blurs colours, but a flat picture stays what it is.
    let flat = Picture { levels: [90, 40, 200].repeat(4), ..made.clone() };
    for (name, made, most) in [("a.png", &made, 0), ("a.webp", &made, 0), ("a.jpg", &flat, 4)] {
        let path = folder.path().join(name);
        std::fs::write(&path, encode(made, &path).unwrap()).unwrap();
        let back = Picture::read(&path).unwrap();
        assert_eq!((back.width, back.height), (2, 2));
        assert!(back.levels.iter().zip(&made.levels).all(|(a, b)| a.abs_diff(*b) <= most), "{name}: {back:?}");
    }
    assert!(matches!(encode(&made, Path::new("a.txt")), Err(ImageError::Extension { .. })));
}

/// A JPEG is whole where its end marker is reached; thumbnails within and what follows do not count.
#[test]
fn the_end_of_a_jpeg() {
    let scan = |pixels: &[u8]| [&[0xff, 0xda, 0, 3, 7][..], pixels].concat();
    let segment = |marker: u8, bytes: &[u8]| [&[0xff, marker, 0, bytes.len() as u8 + 2], bytes].concat();
    let (start, end) = (vec![0xff, 0xd8], vec![0xff, 0xd9]);
    let thumbnail = segment(0xe1, &[0xff, 0xd8, 0xff, 0xda, 0, 2, 0xff, 0xd9]);
    let whole =
        |parts: &[&[u8]]| super::whole::is_whole(io::Cursor::new(parts.concat()), ::image::ImageFormat::Jpeg).unwrap();
    let pixels = scan(&[1, 0xff, 0, 0xff, 0xd3, 2]);
    assert!(whole(&[&start, &thumbnail, &pixels, &end]));
    assert!(whole(&[&start, &pixels, &[0xff], &end, &[1, 2, 3]]), "a fill byte, and more behind");
    assert!(whole(&[&start, &pixels, &segment(0xc4, &[9, 0xff]), &scan(&[5]), &end]), "a second scan");
    assert!(!whole(&[&start, &thumbnail, &pixels]));
    assert!(!whole(&[&start, &pixels, &[0; 50]]), "what was not written is zero");
    assert!(!whole(&[&start, &end]), "no pixels");
    let file = [start, thumbnail, pixels, end].concat();
    assert!((0..file.len()).all(|length| !whole(&[&file[..length]])));
}

/// The upright picture by the standard's words: where row 0 and column 0 of what is stored are seen.
#[test]
fn pictures_are_turned_as_exif_says() {
    use ::image::{ExtendedColorType, ImageEncoder, codecs};
    let (width, height) = (32, 16);
    // Blocks of one level each, so that JPEG keeps them.
    let stored = |row: usize, column: usize| (40 * (row / 8) + 20 * (column / 8) + 30) as u8;
    let levels: Vec<u8> = (0..height).flat_map(|r| (0..width).map(move |c| stored(r, c))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    for orientation in 0..=9u8 {
        let seen = |row: usize, column: usize| match orientation {
            2 => stored(row, width - 1 - column),
            3 => stored(height - 1 - row, width - 1 - column),
            4 => stored(height - 1 - row, column),
            5 => stored(column, row),
            6 => stored(height - 1 - column, row),
            7 => stored(height - 1 - column, width - 1 - row),
            8 => stored(column, width - 1 - row),
            // 1, and what means nothing.
            _ => stored(row, column),
        };
        let lies = (5..=8).contains(&orientation);
        let (high, wide) = if lies { (width, height) } else { (height, width) };
        // A directory of one entry: tag 0x0112, a 16-bit number, one of it.
        let entry = [0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
        let exif = [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat();
        for format in ["png", "jpeg", "webp"] {
            let mut file = vec![];
            let size = (width as u32, height as u32);
            fn write(mut encoder: impl ImageEncoder, exif: &[u8], levels: &[u8], (w, h): (u32, u32)) {
                encoder.set_exif_metadata(exif.to_vec()).unwrap();
                encoder.write_image(levels, w, h, ExtendedColorType::L8).unwrap();
            }
            match format {
                "png" => write(codecs::png::PngEncoder::new(&mut file), &exif, &levels, size),
                "jpeg" => write(codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 100), &exif, &levels, size),
                _ => write(codecs::webp::WebPEncoder::new_lossless(&mut file), &exif, &levels, size),
            }
            std::fs::write(&path, file).unwrap();
            let upright = Picture::read(&path).unwrap();
            assert_eq!((upright.height, upright.width), (high, wide), "{format} {orientation}");
            let channels = upright.channels;
            for (row, column) in (0..high).flat_map(|r| (0..wide).map(move |c| (r, c))) {
                let found = upright.levels[(row * wide + column) * channels];
                assert!(found.abs_diff(seen(row, column)) < 4, "{format} {orientation}: {row} {column}");
            }
            let as_it_is = read_within(&path, Exif::Ignored, DEFAULT_MEMORY).unwrap();
            assert_eq!((as_it_is.height, as_it_is.width), (height, width), "{format} {orientation}");
            assert!(as_it_is.levels[0].abs_diff(stored(0, 0)) < 4);
        }
    }
}

#[test]
fn pictures_stand_side_by_side() {
    let one = |level: u8| Picture { width: 2, height: 1, channels: 1, levels: vec![level, level + 1] };
    let grid = grid(&[one(1), one(11), one(21), one(31), one(41)]);
    assert_eq!((grid.width, grid.height, grid.channels), (6, 2, 1));
    assert_eq!(grid.levels, [1, 2, 11, 12, 21, 22, 31, 32, 41, 42, 0, 0]);
}
