use std::io::Write;
use std::path::Path;

use super::*;
use crate::tensor::{Shape, Tensor};

fn idx(dims: &[u32], elements: &[u8]) -> Vec<u8> {
    let sizes = dims.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, dims.len() as u8].into_iter().chain(sizes).chain(elements.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    Dataset::open(path, &Options::default())
}

fn test_part(path: &Path) -> Dataset {
    Dataset::open(path, &Options { part: Part::Test, ..Options::default() }).unwrap()
}

fn picture_of(set: &Dataset, index: usize) -> Picture {
    match set.read(index, 0).unwrap() {
        Value::Picture(picture) => picture,
        Value::Numbers(numbers) => panic!("no picture: {numbers:?}"),
    }
}

/// Messages without the folder that the test made.
fn told(messages: Vec<String>, folder: &Path) -> String {
    messages.join("\n").replace(&folder.display().to_string(), "FOLDER")
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    [b"\x93NUMPY\x01\0", &(dict.len() as u16).to_le_bytes()[..], dict.as_bytes(), data].concat()
}

fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (i, (name, bytes)) in arrays.iter().enumerate() {
        let method = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated][i % 2];
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn idx_files_are_found_plain_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(here.join(name), bytes).unwrap();
    let levels: Vec<u8> = (0..24).collect();
    write("train-images-idx3-ubyte", &idx(&[4, 2, 3], &levels));
    write("train-labels-idx1-ubyte.gz", &gzip(&idx(&[4], &[0, 2, 1, 2])));
    write("t10k-images-idx3-ubyte.gz", &gzip(&idx(&[1, 2, 3], &levels[6..12])));
    write("t10k-labels-idx1-ubyte", &idx(&[1], &[1]));
    let set = open(here).unwrap();
    assert_eq!(
        (set.len(), set.classes(), set.label_shape()),
        (4, &["0", "1", "2"].map(String::from)[..], Some(&[][..]))
    );
    assert_eq!(set.fields()[0].kind, FieldKind::Pictures(Some([1, 2, 3])));
    assert_eq!(picture_of(&set, 1), Picture { width: 3, height: 2, channels: 1, levels: levels[6..12].to_vec() });
    assert_eq!((0..4).map(|i| set.class(i).unwrap()).collect::<Vec<_>>(), [0, 2, 1, 2]);
    let test = test_part(here);
    assert_eq!((picture_of(&test, 0), test.labels(0)), (picture_of(&set, 1), vec![1]));
    test.check_same_classes(&set).unwrap();
    assert_eq!(open(&here.join("t10k-images-idx3-ubyte.gz")).unwrap().len(), 1);
    // Also where torchvision puts them.
    for name in ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"] {
        std::fs::remove_file(here.join(name)).unwrap();
    }
    let raw = here.join("MNIST/raw");
    std::fs::create_dir_all(&raw).unwrap();
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"] {
        std::fs::rename(here.join(name), raw.join(name)).unwrap();
    }
    assert_eq!(open(here).unwrap().len(), 4);
}

/// `raw` is where torchvision puts files of MNIST, and may be a class.
#[test]
fn a_class_may_be_called_raw() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["cooked", "raw"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
        std::fs::copy("models/digits/images/one-0.png", folder.path().join(class).join("1.png")).unwrap();
    }
    assert_eq!(open(folder.path()).unwrap().classes(), ["cooked", "raw"]);
}

#[test]
fn classes_are_found_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["b", "c"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
        std::fs::copy("models/digits/images/one-0.png", folder.path().join(class).join("1.png")).unwrap();
    }
    let set = open(folder.path()).unwrap();
    let named = |names: &[&str]| set.with_classes(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    let other = named(&["c", "a", "b"]).unwrap();
    assert_eq!((set.labels(0), set.labels(1)), (vec![0], vec![1]));
    assert_eq!((other.labels(0), other.labels(1), other.classes().len()), (vec![2], vec![0], 3));
    let messages = [named(&["a", "b"]), named(&["a"]), named(&["c", "b", "c"])].map(|set| set.unwrap_err().to_string());
    assert_eq!(
        told(messages.to_vec(), folder.path()).lines().collect::<Vec<_>>(),
        [
            "FOLDER: `c` is none of the 2 classes",
            "FOLDER: `b`, `c` are none of the 1 classes",
            "FOLDER: several of the 3 classes are called `c`",
        ]
    );
}

#[test]
fn mistakes_in_idx_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (images, labels) = (here.join("train-images-idx3-ubyte"), here.join("train-labels-idx1-ubyte"));
    let good = (idx(&[2, 2, 2], &[7; 8]), idx(&[2], &[0, 1]));
    let said = |pictures: &[u8], classes: &[u8]| {
        std::fs::write(&images, pictures).unwrap();
        std::fs::write(&labels, classes).unwrap();
        let options = Options { memory: Some(1 << 20), ..Options::default() };
        Dataset::open(here, &options).map(drop).unwrap_err().to_string()
    };
    let mut damaged = gzip(&good.0);
    let middle = damaged.len() - 6;
    damaged[middle] ^= 1;
    let messages = vec![
        said(&good.0[..20], &good.1),
        said(&good.0[..9], &good.1),
        said(&good.0[..3], &good.1),
        said(&[&good.0[..], b"x"].concat(), &good.1),
        said(b"\x89PNG and more", &good.1),
        said(&idx(&[2, 2], &[7; 4]), &good.1),
        said(&[&[0, 0, 13, 3][..], &good.0[4..]].concat(), &good.1),
        said(&idx(&[2, 0, 2], &[]), &good.1),
        said(&idx(&[u32::MAX; 3], &[]), &good.1),
        said(&good.0, &idx(&[3], &[0, 1, 2])),
        said(&good.0, &good.1[..9]),
        said(&gzip(&good.0[..20]), &good.1),
        said(&gzip(&good.0)[..24], &good.1),
        said(&damaged, &good.1),
        // What says that it is large, and is not; and what is.
        said(&gzip(&idx(&[1 << 20, 100, 100], &[])), &good.1),
        said(&gzip(&idx(&[1 << 10, 32, 33], &[0; 1 << 20])), &good.1),
        {
            std::fs::remove_file(&labels).unwrap();
            open(here).unwrap_err().to_string()
        },
        open(&here.join("none")).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(told(messages, here));
}

/// Records of which each has its number in all levels, and which begin with these labels.
fn records(labels: &[&[u8]]) -> Vec<u8> {
    let record = |(i, labels): (usize, &&[u8])| {
        let planes = (0..3 * 32 * 32).map(move |at| (i * 10 + at / 1024) as u8);
        labels.iter().copied().chain(planes).collect::<Vec<u8>>()
    };
    labels.iter().enumerate().flat_map(record).collect()
}

#[test]
fn cifar_is_read_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    let ten = folder.path().join("cifar-10-batches-bin");
    std::fs::create_dir(&ten).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(ten.join(name), bytes).unwrap();
    write("data_batch_1.bin", &records(&[&[0], &[2]]));
    write("data_batch_2.bin", &records(&[&[1]]));
    write("test_batch.bin", &records(&[&[1], &[0], &[0]]));
    let set = open(folder.path()).unwrap();
    assert_eq!((set.len(), set.classes(), test_part(&ten).len()), (3, &["0", "1", "2"].map(String::from)[..], 3));
    assert_eq!((0..3).map(|i| set.class(i).unwrap()).collect::<Vec<_>>(), [0, 2, 1]);
    let expected = Picture { width: 32, height: 32, channels: 3, levels: [10, 11, 12].repeat(1024) };
    assert_eq!(picture_of(&set, 1), expected);
    assert!(set.name(2).ends_with("data_batch_2.bin: sample 0"));
    write("batches.meta.txt", b"airplane\nautomobile\nbird\n\n");
    assert_eq!(open(&ten).unwrap().classes(), ["airplane", "automobile", "bird"]);
    write("batches.meta.txt", b"airplane\n");
    let mut messages = vec![open(&ten).unwrap_err().to_string()];
    assert_eq!(open(&ten.join("data_batch_2.bin")).unwrap_err().to_string().lines().count(), 1);

    let hundred = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(hundred.path().join(name), bytes).unwrap();
    write("train.bin", &records(&[&[19, 3], &[0, 99]]));
    write("test.bin", &records(&[&[7, 5]]));
    let set = open(hundred.path()).unwrap();
    assert_eq!(
        (set.len(), set.classes().len(), set.labels(1), test_part(hundred.path()).labels(0)),
        (2, 100, vec![99], vec![5])
    );
    assert_eq!(picture_of(&set, 1), expected);
    write("train.bin", &records(&[&[19, 3], &[0, 99]])[..5000]);
    messages.push(open(hundred.path()).unwrap_err().to_string());
    write("train.bin", b"");
    messages.push(open(&hundred.path().join("train.bin")).unwrap_err().to_string());
    write("data_batch_1.bin", b"");
    messages.push(open(hundred.path()).unwrap_err().to_string());
    let told = told(messages, folder.path()).replace(&hundred.path().display().to_string(), "HUNDRED");
    insta::assert_snapshot!(told);
}

/// Whatever is wrong with a file, it is an error and nothing else.
#[test]
fn damaged_files_are_errors_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (images, labels) = (here.join("train-images-idx3-ubyte"), here.join("train-labels-idx1-ubyte"));
    let archive = here.join("set.npz");
    npz(&archive, &[("x", npy("|u1", "3, 2, 2", &[5; 12])), ("y", npy("<i8", "3,", &[0; 24]))]);
    std::fs::write(&labels, idx(&[3], &[0, 1, 0])).unwrap();
    let plain = idx(&[3, 2, 2], &[5; 12]);
    let packed = std::fs::read(&archive).unwrap();
    let read_all = |path: &Path| {
        let Ok(set) = Dataset::open(path, &Options { memory: Some(1 << 20), ..Options::default() }) else { return };
        for sample in 0..set.len() {
            (0..set.fields().len()).for_each(|field| drop(set.read(sample, field)));
            assert!(set.labels(sample).len() <= 12);
        }
    };
    for (path, whole) in [(&images, plain.clone()), (&images, gzip(&plain)), (&archive, packed)] {
        for cut in 0..whole.len() {
            std::fs::write(path, &whole[..cut]).unwrap();
            read_all(path);
            for with in [whole[cut] ^ 1, whole[cut] ^ 0x80, 0, 0xff] {
                let mut damaged = whole.clone();
                damaged[cut] = with;
                std::fs::write(path, damaged).unwrap();
                read_all(path);
            }
        }
    }
}

#[test]
fn archives_give_arrays_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.npz");
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let i64s = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let image: Vec<u8> = (0..24).collect();
    let arrays = [
        ("image", npy("|u1", "2, 2, 2, 3", &image)),
        ("labels", npy("<i8", "2, 1", &i64s(&[1, 0]))),
        ("planar", npy("|u1", "2, 3, 2, 2", &image)),
        ("target", npy("<f4", "2, 2", &f32s(&[0.5, 1.5, -2.0, 3.0]))),
    ];
    npz(&path, &arrays);
    let set = open(folder.path()).unwrap();
    let names: Vec<&str> = set.fields().iter().map(|field| &*field.name).collect();
    assert_eq!((set.len(), set.classes().len(), names), (2, 2, vec!["image", "planar", "target"]));
    assert_eq!((set.class(0), set.class(1)), (Some(1), Some(0)));
    assert_eq!(picture_of(&set, 1).levels, image[12..]);
    let Value::Picture(planar) = set.read(0, 1).unwrap() else { panic!("bytes are pictures") };
    assert_eq!(planar.levels, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    assert_eq!(set.read(1, 2).unwrap(), Value::Numbers(vec![-2.0, 3.0]));
    // By name, and what is left to what is left.
    let inputs = |image, target| {
        [
            Input { name: image, ..input(&[3, 2, 2], &[]) },
            Input { name: "planar", ..input(&[3, 2, 2], &[]) },
            Input { name: target, ..input(&[2], &[]) },
        ]
    };
    let fields = |inputs: &[Input<'_>]| set.feeds(inputs).map(|f| f.iter().map(Feed::field).collect::<Vec<_>>());
    assert_eq!(fields(&inputs("image", "target")).unwrap(), [0, 1, 2]);
    assert_eq!(fields(&inputs("image", "box")).unwrap(), [0, 1, 2]);
    assert!(fields(&inputs("picture", "box")).is_err());
    let feeds = set.feeds(&inputs("image", "target")).unwrap();
    let mode = Mode::Evaluation;
    let batch = Loader::new(&set, feeds, Settings { batch: 2, mode, ..Settings::default() }).unwrap().next();
    let batch = batch.unwrap().unwrap();
    assert_eq!((&batch.labels[..], &batch.inputs[2][..]), (&[1.0, 0.0][..], &[0.5, 1.5, -2.0, 3.0][..]));
}

#[test]
fn archives_hold_several_parts() {
    let folder = tempfile::tempdir().unwrap();
    let arrays = |names: [&'static str; 4]| {
        let bytes = |count: usize| npy("|u1", &format!("{count}, 2, 2"), &vec![count as u8; 4 * count]);
        let labels = |count: usize| npy("|u1", &format!("{count},"), &vec![0; count]);
        names.into_iter().zip([bytes(3), labels(3), bytes(1), labels(1)]).collect::<Vec<_>>()
    };
    let path = folder.path().join("sets.npz");
    for names in
        [["x_train", "y_train", "x_test", "y_test"], ["train_images", "train_labels", "val_images", "val_labels"]]
    {
        npz(&path, &arrays(names));
        let (train, test) = (open(&path).unwrap(), test_part(&path));
        assert_eq!((train.len(), test.len(), train.fields().len()), (3, 1, 1));
        assert_eq!((picture_of(&test, 0).levels, test.labels(0)), (vec![1; 4], vec![0]));
    }
}

#[test]
fn labels_may_belong_to_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.npz");
    let masks = npy("|u1", "2, 2, 2", &[0, 1, 2, 255, 255, 255, 1, 0]);
    npz(&path, &[("image", npy("|u1", "2, 2, 2", &[9; 8])), ("mask", masks)]);
    let open = |ignored| Dataset::open(&path, &Options { ignored, labels: Some("mask".into()), ..Options::default() });
    let set = open(Some(255)).unwrap();
    assert_eq!((set.classes().len(), set.label_shape(), set.class(0)), (3, Some(&[2, 2][..]), None));
    assert_eq!(set.labels(1), [255, 255, 1, 0]);
    set.check_labels(3, Some(255)).unwrap();
    assert!(set.check_labels(3, None).unwrap_err().to_string().contains("sample 0 (from 0) has the label 255"));
    assert!(set.check_labels(2, Some(255)).unwrap_err().to_string().contains("the label 2"));
    assert_eq!(open(None).unwrap().classes().len(), 256);
    // Without such a name, the array is an input.
    assert_eq!(Dataset::open(&path, &Options::default()).unwrap().fields().len(), 2);
}

#[test]
fn mistakes_in_archives_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.npz");
    let x = || ("x", npy("<f4", "2, 1", &[0; 8]));
    let said = |arrays: &[(&str, Vec<u8>)]| {
        npz(&path, arrays);
        let options = Options { memory: Some(1 << 20), ..Options::default() };
        Dataset::open(&path, &options).map(drop).unwrap_err().to_string()
    };
    let fortran = String::from_utf8(npy("<f4", "2, 2", &[]))
        .map_err(|e| e.into_bytes())
        .unwrap_or_else(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(fortran.contains("False"));
    let mut column_major = npy("<f4", "2, 2", &[0; 16]);
    let at = column_major.windows(5).position(|w| w == b"False").unwrap();
    column_major[at..at + 5].copy_from_slice(b"True ");
    let messages = vec![
        said(&[]),
        said(&[("x", npy("<f4", "2, 1", &[0; 7]))]),
        said(&[x(), ("y", npy("<i8", "3,", &[0; 24]))]),
        said(&[x(), ("y", npy("<i4", "2,", &[0, 0, 0, 0, 0, 0, 0, 64]))]),
        said(&[x(), ("y", npy("|i1", "2,", &[0, 255]))]),
        said(&[("x", npy("<c8", "2,", &[0; 16]))]),
        said(&[("x", npy("|O", "2,", &[0; 16]))]),
        said(&[("x", npy("<f4", "", &[0; 4]))]),
        said(&[("x", npy("<f4", "0, 3", &[]))]),
        said(&[("x", npy("<f4", "99999999999, 99999999999", &[]))]),
        said(&[("x", column_major)]),
        said(&[("x", b"nothing".to_vec())]),
        said(&[x(), ("z", npy("|u1", "2, 1000000", &vec![0; 2_000_000]))]),
        {
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            open(&path).unwrap_err().to_string()
        },
    ];
    insta::assert_snapshot!(told(messages, folder.path()));
}

fn png(path: &Path, width: usize, height: usize, level: u8) {
    let picture = Picture { width, height, channels: 3, levels: vec![level; width * height * 3] };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, crate::image::encode(&picture, path).unwrap()).unwrap();
}

#[test]
fn folders_are_classes_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    png(&here.join("dog/b.png"), 5, 4, 20);
    png(&here.join("dog/a.PNG"), 4, 4, 10);
    png(&here.join("cat/c.webp"), 3, 9, 30);
    std::fs::write(here.join("dog/notes.txt"), "none").unwrap();
    std::fs::write(here.join("dog/.hidden.png"), "none").unwrap();
    std::fs::create_dir(here.join(".cache")).unwrap();
    let set = open(here).unwrap();
    assert_eq!((set.len(), set.classes()), (3, &["cat", "dog"].map(String::from)[..]));
    assert_eq!((0..3).map(|i| set.class(i).unwrap()).collect::<Vec<_>>(), [0, 1, 1]);
    let picture = picture_of(&set, 1);
    assert_eq!((picture.width, picture.levels[0]), (4, 10));
    assert!(set.name(2).ends_with("dog/b.png"));
    // Pictures of any size become inputs of one.
    let feeds = set.feeds(&[Input { name: "x", ..input(&[1, 2, 2], &[]) }]).unwrap();
    let settings = Settings { batch: 3, mode: Mode::Evaluation, ..Settings::default() };
    let batch = Loader::new(&set, feeds, settings).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.inputs[0], [30f32, 10.0, 20.0].map(|l| [l * (1.0 / 255.0); 4]).concat());
    assert_eq!(batch.labels, [0.0, 1.0, 1.0]);
}

#[test]
fn folders_hold_several_parts() {
    let folder = tempfile::tempdir().unwrap();
    for (name, level) in [("train/a/1.png", 1), ("train/b/2.png", 2), ("val/a/3.png", 3), ("val/b/4.png", 4)] {
        png(&folder.path().join(name), 2, 2, level);
    }
    let (train, test) = (open(folder.path()).unwrap(), test_part(folder.path()));
    assert_eq!((picture_of(&train, 1).levels[0], picture_of(&test, 0).levels[0]), (2, 3));
    test.check_same_classes(&train).unwrap();
}

#[test]
fn mistakes_in_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let said = |path: &Path| open(path).map(drop).unwrap_err().to_string();
    let mut messages = vec![said(here)];
    std::fs::create_dir(here.join("a")).unwrap();
    messages.push(said(here));
    png(&here.join("b/1.png"), 2, 2, 1);
    messages.push(said(here));
    png(&here.join("a/1.png"), 2, 2, 1);
    let trained = open(here).unwrap();
    let other = tempfile::tempdir().unwrap();
    let same = || open(other.path()).unwrap().check_same_classes(&trained).unwrap_err().to_string();
    png(&other.path().join("a/1.png"), 2, 2, 1);
    messages.push(same());
    png(&other.path().join("c/1.png"), 2, 2, 1);
    messages.push(same());
    png(&other.path().join("b/1.png"), 2, 2, 1);
    messages.push(same());
    std::fs::write(here.join("text"), "text").unwrap();
    messages.push(said(&here.join("text")));
    let told = told(messages, here).replace(&other.path().display().to_string(), "OTHER");
    insta::assert_snapshot!(told);
}

/// Each broken picture of a folder is named by its file.
#[test]
fn broken_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    (0..8).for_each(|i| png(&here.join(format!("a/{i}.png")), 16, 16, i));
    let whole = std::fs::read(here.join("a/3.png")).unwrap();
    std::fs::write(here.join("a/3.png"), &whole[..whole.len() - 20]).unwrap();
    std::fs::write(here.join("a/5.png"), "no picture").unwrap();
    let set = open(here).unwrap();
    let feeds = set.feeds(&[input(&[3, 8, 8], &[])]).unwrap();
    let settings = Settings { batch: 8, threads: 2, on_broken: OnBroken::Skip, ..Settings::default() };
    let batch = Loader::new(&set, feeds, settings).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.count, 8);
    let mut named: Vec<String> = batch.broken.iter().map(ToString::to_string).collect();
    named.sort();
    named.dedup();
    insta::assert_snapshot!(told(named, here));
}

/// A file that is written to while it is read is noticed.
#[test]
fn changed_files_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.npz");
    let tensor = Tensor::new(Shape::new([4, 2]), vec![1.0; 8]);
    let mut bytes = vec![];
    crate::npy::write(&mut bytes, &tensor).unwrap();
    npz(&path, &[("x", bytes)]);
    let stamp = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(stamp).unwrap();
    let set = open(&path).unwrap();
    let feeds = set.feeds(&[Input { name: "x", ..input(&[2], &[]) }]).unwrap();
    let mut loader = Loader::new(&set, feeds, Settings { batch: 2, threads: 0, ..Settings::default() }).unwrap();
    assert!(loader.next().unwrap().is_ok());
    std::fs::File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    let error = loader.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("the file was changed while it was read: it grew"), "{error}");
}
