//! Files that PyTorch and NumPy wrote (`tests/weights/make.py`), whole and damaged.

use std::path::PathBuf;

use super::Weights;
use super::entries::{Encoding, Entry};
use super::load::{Tolerance, load};
use super::{Choice, Format, WeightFile, open};
use crate::ops::Init;
use crate::tensor::Shape;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/weights").join(name)
}

fn entry<'a>(file: &'a WeightFile, name: &str) -> &'a Entry {
    file.entries.iter().find(|e| e.name == name).unwrap_or_else(|| panic!("{name} is missing"))
}

fn values(file: &WeightFile, name: &str) -> Vec<f32> {
    (*entry(file, name).values().unwrap()).as_ref().to_vec()
}

const COUNTING: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

fn check_state_dict(file: &WeightFile) {
    assert_eq!(file.format, Format::PyTorch);
    for name in ["plain", "half", "brain", "double"] {
        assert_eq!(entry(file, name).shape.dims(), [2, 3], "{name}");
        assert_eq!(values(file, name), COUNTING, "{name}");
    }
    assert_eq!(entry(file, "transposed").shape.dims(), [3, 2]);
    assert_eq!(values(file, "transposed"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values(file, "row"), [3.0, 4.0, 5.0]);
    assert_eq!(values(file, "expanded"), [1.0; 4]);
    assert_eq!(values(file, "channels_last"), (0..8).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(values(file, "parameter"), [0.0, 1.0, 2.0]);
    assert_eq!(entry(file, "bn.num_batches_tracked").encoding, Encoding::Other("i64"));
    assert_eq!(file.entries.len(), 10);
}

#[test]
fn checkpoints_of_both_formats_and_in_wrappers() {
    for name in ["state.pth", "legacy.pth", "wrapped.pth"] {
        check_state_dict(&open(&path(name)).unwrap());
    }
    let nested = open(&path("nested.pth")).unwrap();
    let listed: Vec<String> = nested.entries.iter().map(|e| format!("{e:?}")).collect();
    assert_eq!(listed, ["encoder.w: f32[2]", "heads.0: f32[1]", "heads.1.0: f32[3]"]);
}

/// Beside the weights, their running average, which is taken.
#[test]
fn one_of_several_sets_of_weights_is_chosen() {
    let part = |name: &str, key: &str| open(&PathBuf::from(format!("{}:{key}", path(name).display())));
    let first = |file: &WeightFile| values(file, "conv1.bias")[0];
    let file = open(&path("averaged.pth")).unwrap();
    assert_eq!(first(&file), 1.0);
    assert_eq!(file.choice, Some(Choice { taken: "params_ema".into(), others: vec!["params".into()] }));
    assert_eq!(open(&path("timm.pth")).unwrap().choice.map(|choice| choice.taken), Some("state_dict_ema".into()));
    for (key, value) in [("params", -1.0), ("params_ema", 1.0)] {
        let file = part("averaged.pth", key).unwrap();
        assert_eq!((first(&file), file.choice), (value, None));
    }
    assert_eq!(open(&path("wrapped.pth")).unwrap().choice, None, "a state dict and an optimizer");
    check_state_dict(&part("wrapped.pth", "state_dict").unwrap());
    let names = |file: WeightFile| file.entries.into_iter().map(|e| e.name).collect::<Vec<_>>();
    assert_eq!(names(part("nested.pth", "encoder").unwrap()), ["w"]);
    assert_eq!(names(part("nested.pth", "heads.1").unwrap()), ["0"]);
    assert_eq!(names(part("stored.npz", "steps").unwrap()), ["num_batches_tracked"]);
    let messages = [("averaged.pth", "ema"), ("state.pth", "plain"), ("packed.npz", "plain")]
        .map(|(name, key)| part(name, key).unwrap_err().message);
    let expected = [
        "the checkpoint has nothing under `ema`; it has params, params_ema",
        "the checkpoint has nothing under `plain`",
        "no tensor's name begins with `plain.`",
    ];
    assert_eq!(messages, expected);
}

#[test]
fn values_of_a_stored_member_are_not_copied() {
    let file = open(&path("state.pth")).unwrap();
    let plain = entry(&file, "plain");
    let values = plain.values().unwrap();
    let (buffer, range) = &plain.bytes;
    assert_eq!((*values).as_ref().as_ptr().cast(), (**buffer).as_ref()[range.clone()].as_ptr());
}

#[test]
fn numpy_archives() {
    for name in ["stored.npz", "packed.npz"] {
        let file = open(&path(name)).unwrap();
        assert_eq!(file.format, Format::Npz);
        for array in ["plain", "half", "double", "fortran"] {
            assert_eq!(entry(&file, array).shape.dims(), [2, 3], "{array}");
            assert_eq!(values(&file, array), COUNTING, "{array}");
        }
    }
}

/// As protocols 2, 4 and 5, NumPy 1 and 2, and Python 2 write them; and beside tensors.
#[test]
fn pickles_of_numpy_arrays() {
    for name in ["arrays_2.pkl", "arrays_4.pkl", "arrays_5.pkl"] {
        let file = open(&path(name)).unwrap_or_else(|e| panic!("{name}: {}", e.message));
        assert_eq!((file.format, file.entries.len()), (Format::Pickle, 5), "{name}: {:?}", file.entries);
        for array in ["plain", "half", "double", "fortran"] {
            assert_eq!(entry(&file, array).shape.dims(), [2, 3], "{array}");
            assert_eq!(values(&file, array), COUNTING, "{name}: {array}");
        }
        assert_eq!(entry(&file, "big_endian").encoding, Encoding::Other("big-endian number"));
    }
    for (name, expected) in
        [("arrays_1.pkl", [0.0, 1.0]), ("arrays_python2.pkl", [1.5, -2.0]), ("numpy.pth", [0.0, 1.0])]
    {
        let file = open(&path(name)).unwrap_or_else(|e| panic!("{name}: {}", e.message));
        assert_eq!(values(&file, "w"), expected, "{name}");
    }
    let plain = open(&path("arrays_4.pkl")).unwrap();
    let (buffer, range) = &entry(&plain, "plain").bytes;
    assert!((**buffer).as_ref().len() > 500 && range.len() == 24, "numbers stay where they are in the file");
}

/// Chunks, packed and not, numbers in another order of bytes, groups of newer kinds: what h5py writes.
#[test]
fn datasets_of_other_files_go_by_their_paths() {
    let file = open(&path("packed.h5")).unwrap();
    assert_eq!((file.format, file.entries.len()), (Format::Hdf5, 17));
    for name in ["conv1.plain", "conv1.half", "big", "grown"] {
        assert_eq!(entry(&file, name).shape.dims(), [2, 3], "{name}");
        assert_eq!(values(&file, name), COUNTING, "{name}");
    }
    assert_eq!(values(&file, "many.11"), [11.0]);
    assert_eq!(entry(&file, "name").encoding, Encoding::Other("text"));
    let half = entry(&file, "conv1.half");
    assert!((*half.bytes.0).as_ref().len() > 1000, "values in one piece stay in the file");
    let within = |memory| {
        super::file::parse_within(&(std::sync::Arc::new(std::fs::read(path("packed.h5")).unwrap()) as _), memory)
    };
    let message = within(Some(70)).map(drop).unwrap_err();
    assert!(message.contains("are unpacked, more than the 70 B that the file may take"), "{message}");
    assert!(within(Some(200)).is_ok());
}

/// Programs keep settings, figures and averages beside the weights.
#[test]
fn what_lies_beside_a_state_dict_is_left_alone() {
    for name in ["example.pth", "average.pth", "checkpoint_epoch_0100.pth"] {
        let file = open(&path(name)).unwrap_or_else(|e| panic!("{name}: {}", e.message));
        assert_eq!(values(&file, "conv.weight"), [0.0, 1.0], "{name}");
        let others: Vec<&str> =
            file.entries.iter().map(|e| e.name.as_str()).filter(|name| !name.starts_with("conv.")).collect();
        assert_eq!(others, if name == "average.pth" { vec!["n_averaged"] } else { vec![] }, "{name}");
    }
    let file = open(&path("average.pth")).unwrap();
    assert_eq!(file.choice, Some(Choice { taken: "model_ema".into(), others: vec!["model".into()] }));
}

/// Lightning's names begin with `model.`; the network's decide whether that belongs to them.
#[test]
fn a_prefix_goes_where_the_network_has_none() {
    let file = open(&path("lightning.ckpt")).unwrap();
    for (prefix, stripped) in [("", Some("model.")), ("model.", None)] {
        let mut weights = Weights::default();
        for (name, dims) in [("conv.weight", vec![2, 1, 1, 1]), ("conv.bias", vec![2])] {
            weights.declare(&format!("{prefix}{name}"), Shape::new(dims), Init::Constant(0.0), true).unwrap();
        }
        let loaded = load(&mut weights, &file.entries, &Tolerance::default()).unwrap();
        assert_eq!((loaded.weights, loaded.prefix), (2, stripped));
    }
    let mut other = file.entries.clone();
    other.iter_mut().for_each(|e| e.name = e.name.replace("model.", "net.1."));
    let mut weights = Weights::default();
    for (name, dims) in [("1.conv.weight", vec![2, 1, 1, 1]), ("1.conv.bias", vec![2])] {
        weights.declare(name, Shape::new(dims), Init::Constant(0.0), true).unwrap();
    }
    let message = load(&mut weights, &other, &Tolerance::default()).unwrap_err().to_string();
    assert!(
        message.ends_with("all names of the file begin with `net.`: --rename '^net\\.=' takes it away"),
        "{message}"
    );
    // Two sets beside one another, and something else.
    let mut several = other.clone();
    several.iter_mut().for_each(|e| e.name = e.name.replace("net.", "ema."));
    several.extend(other.iter().cloned());
    several.push(Entry { name: "head.bias".into(), ..other[0].clone() });
    let message = load(&mut weights, &several, &Tolerance::default()).unwrap_err().to_string();
    assert!(
        message.ends_with("what is missing stands behind `ema.` and `net.`: FILE:ema takes those weights"),
        "{message}"
    );
    // A network within a module, beside a loss that has weights.
    let mut within = other.clone();
    within.iter_mut().for_each(|e| e.name = e.name.replace("net.", "model.net."));
    within.push(Entry { name: "loss.weight".into(), ..other[0].clone() });
    let message = load(&mut weights, &within, &Tolerance::default()).unwrap_err().to_string();
    assert!(
        message.ends_with("what is missing stands behind `model.net.`: FILE:model.net takes those weights"),
        "{message}"
    );
}

/// Complex numbers and those of 8 bits with an exponent, which nobody asks for.
#[test]
fn numbers_that_are_not_read_are_no_reason_to_refuse_others() {
    let file = open(&path("other_numbers.pth")).unwrap();
    let listed: Vec<String> = file.entries.iter().map(|e| format!("{e:?}")).collect();
    assert_eq!(listed[2..], ["rotation: complex64[2]", "eighth: float8[2]"]);
    assert!(file.entries[2..].iter().all(|entry| entry.values().is_none()));
    assert_eq!(values(&file, "conv1.bias"), [1.0, 2.0]);
}

#[test]
fn what_is_no_state_dict_is_refused_by_name() {
    let names = ["malicious", "whole_model", "no_tensors", "sparse", "quantized", "meta"];
    let names = names.map(|name| format!("{name}.pth")).into_iter().chain(["plain.pkl".to_string()]);
    let messages: Vec<String> =
        names.map(|name| open(&path(&name)).unwrap_err().message.replace(env!("CARGO_MANIFEST_DIR"), "")).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

/// Every prefix of every file, and every file with one byte changed, is read or refused.
#[test]
fn damaged_files_never_panic() {
    let files = [
        ("state.pth", 1),
        ("legacy.pth", 1),
        ("nested.pth", 1),
        ("arrays_2.pkl", 3),
        ("arrays_5.pkl", 3),
        ("arrays_python2.pkl", 1),
        ("numpy.pth", 1),
        ("stored.npz", 1),
        ("packed.npz", 1),
        ("packed.h5", 1),
        ("keras.h5", 5),
        ("keras.keras", 11),
    ];
    for (name, step) in files {
        let whole = std::fs::read(path(name)).unwrap();
        for length in (0..whole.len()).step_by(7 * step) {
            drop(read_all(whole[..length].to_vec()));
        }
        for at in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            drop(read_all(damaged));
        }
    }
}

/// Stored members are mapped, not unpacked; their CRC-32 is compared all the same.
#[test]
fn a_changed_byte_of_a_stored_member_is_noticed() {
    for name in ["state.pth", "nested.pth", "stored.npz"] {
        let whole = std::fs::read(path(name)).unwrap();
        let intact = open(&path(name)).unwrap();
        for (_, range) in intact.entries.iter().map(|e| &e.bytes).filter(|(b, _)| (**b).as_ref() == whole) {
            for at in range.clone() {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << (at % 8);
                let message = read_all(damaged).unwrap_err();
                assert!(message.starts_with("member ") && message.contains("CRC-32"), "{name} {at}: {message}");
            }
        }
    }
}

/// `torch.save` can be told to compute no CRC-32, and writes zeros for it.
#[test]
fn a_crc_of_zero_is_none() {
    let mut file = std::fs::read(path("state.pth")).unwrap();
    let mut crcs = vec![];
    for (signature, offset) in [(b"PK\x01\x02", 16), (b"PK\x03\x04", 14)] {
        crcs.extend((0..file.len() - 4).filter(|&i| file[i..].starts_with(signature)).map(|i| i + offset));
    }
    assert!(crcs.len() >= 20);
    crcs.into_iter().for_each(|at| file[at..at + 4].fill(0));
    read_all(file).unwrap();
}

fn read_all(bytes: Vec<u8>) -> Result<(), String> {
    let buffer: super::entries::Buffer = std::sync::Arc::new(bytes);
    let file = super::file::parse(&buffer)?;
    file.entries.iter().for_each(|e| drop(e.values()));
    Ok(())
}

/// A NumPy archive whose only member is deflated, of `values` zeros.
fn zeros(values: usize) -> super::entries::Buffer {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("w.npy", deflated).unwrap();
    let mut bytes = vec![];
    crate::npy::write(&mut bytes, &crate::tensor::Tensor::new([values], vec![0.0; values])).unwrap();
    writer.write_all(&bytes).unwrap();
    std::sync::Arc::new(writer.finish().unwrap().into_inner())
}

#[test]
fn archives_unpack_to_no_more_than_they_may() {
    let file = zeros(1 << 20);
    let open = |memory| super::file::parse_within(&file, memory);
    assert_eq!(open(None).unwrap().entries.len(), 1);
    assert!(open(Some(5 << 20)).is_ok());
    let message = open(Some(4 << 20)).map(drop).unwrap_err();
    assert!(message.contains("are unpacked, more than the 4.2 MB that the archive may take"), "{message}");
}
