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
    let values = prepare(&ramp(2, 2, 3), &preprocess, [3, 2, 2]).unwrap();
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
    assert_eq!(prepare(&pixel, &with(Color::Bgr, false), [3, 1, 1]).unwrap(), [30.0, 20.0, 10.0]);
    assert_eq!(prepare(&pixel, &with(Color::Rgb, true), [3, 1, 1]).unwrap(), [245.0, 235.0, 225.0]);
    // 0.299 · 10 + 0.587 · 20 + 0.114 · 30 = 18.15
    assert_eq!(prepare(&pixel, &with(Color::Gray, false), [1, 1, 1]).unwrap(), [18.0]);
    let gray = Picture { width: 1, height: 1, channels: 1, levels: vec![7] };
    assert_eq!(prepare(&gray, &with(Color::Rgb, false), [3, 1, 1]).unwrap(), [7.0; 3]);
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
    let crops = ten_crop(&ramp(4, 4, 1), &Preprocess { center_crop: Some([2, 2]), ..Preprocess::default() }, [1, 2, 2]);
    let first: Vec<f32> = crops.unwrap().chunks(4).map(|c| c[0]).collect();
    assert_eq!(first, [0.0, 2.0, 20.0, 22.0, 11.0, 3.0, 1.0, 23.0, 21.0, 12.0]);
}

#[test]
fn sizes_that_do_not_fit_are_told() {
    let crop = |side| Preprocess { center_crop: Some([side; 2]), ..Preprocess::default() };
    let errors = [
        prepare(&ramp(4, 4, 3), &crop(3), [3, 2, 2]).unwrap_err(),
        prepare(&ramp(4, 4, 3), &crop(2), [4, 2, 2]).unwrap_err(),
        ten_crop(&ramp(4, 4, 3), &crop(2), [3, 5, 5]).unwrap_err(),
        prepare(&ramp(2, 2, 3), &Preprocess { mean: vec![1.0; 2], ..crop(2) }, [3, 2, 2]).unwrap_err(),
    ];
    insta::assert_snapshot!(errors.map(|e| e.to_string()).join("\n"));
}

#[test]
fn a_strip_does_not_take_all_memory() {
    let strip = Picture { width: 1, height: 1 << 15, channels: 1, levels: vec![0; 1 << 15] };
    let resize = |r| Preprocess { resize: Some(r), ..Preprocess::default() };
    for side in [3000, 60_000] {
        let error = prepare(&strip, &resize(Resize::ShorterSide(side)), [1, 4, 4]).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
    let crop = |side: usize| Preprocess { center_crop: Some([side, side]), ..Preprocess::default() };
    assert!(matches!(prepare(&strip, &crop(60_000), [1, 60_000, 60_000]), Err(ImageError::TooLarge { .. })));
    let border = prepare(&Picture { width: 1 << 15, height: 1, ..strip }, &crop(9000), [1, 9000, 9000]);
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
        for make in [prepare, ten_crop] {
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
    let read = |bytes: &[u8], memory| decode(io::Cursor::new(bytes), Path::new("p"), memory);
    for header in [png_header(1 << 15, 1 << 15), webp_header(16383, 16383)] {
        let error = read(&header, DEFAULT_MEMORY).unwrap_err();
        assert!(matches!(error, ImageError::Memory { needed, .. } if needed > 2 << 30), "{error}");
        assert!(error.to_string().contains("×"), "{error}");
    }
    // What is small goes on to its data, of which there are none.
    assert!(matches!(read(&png_header(10, 10), 1000), Err(ImageError::Decode { .. })));
    assert!(matches!(read(&png_header(10, 10), 100), Err(ImageError::Memory { .. })));
}

#[test]
fn without_size_in_the_spec_pictures_are_resized_to_the_input() {
    assert_eq!(prepare(&ramp(9, 5, 3), &Preprocess::default(), [3, 4, 4]).unwrap().len(), 48);
}

#[test]
fn files_are_recognised_by_their_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    let picture = ::image::RgbaImage::from_fn(3, 2, |x, y| ::image::Rgba([x as u8, y as u8, 7, 0]));
    picture.save_with_format(&path, ::image::ImageFormat::Png).unwrap();
    let read_back = read(&path).unwrap();
    assert_eq!((read_back.width, read_back.height, read_back.channels), (3, 2, 3));
    assert_eq!(read_back.levels[..6], [0, 0, 7, 1, 0, 7]);

    let png = std::fs::read(&path).unwrap();
    std::fs::write(&path, &png[..png.len() / 2]).unwrap();
    assert!(matches!(read(&path), Err(ImageError::Decode { .. })));
    std::fs::write(&path, "hello").unwrap();
    assert!(matches!(read(&path), Err(ImageError::Format { .. })));
    assert!(matches!(read(&folder.path().join("none.png")), Err(ImageError::Io { .. })));
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
        let back = read(&path).unwrap();
        assert_eq!((back.width, back.height), (2, 2));
        assert!(back.levels.iter().zip(&made.levels).all(|(a, b)| a.abs_diff(*b) <= most), "{name}: {back:?}");
    }
    assert!(matches!(encode(&made, Path::new("a.txt")), Err(ImageError::Extension { .. })));
}
