//! What no transcript of the command line reaches; `tests/it/objects.rs` links and runs objects.

use super::*;
use crate::artifact::{Destination, StateRecord};
use crate::tensor::Element;

#[test]
fn names_are_names_of_c() {
    let distinct = |texts: &[&str]| names::distinct(texts.iter().copied(), &["arena"]);
    assert_eq!(distinct(&["image", "logits"]), ["image", "logits"]);
    assert_eq!(
        distinct(&["a.b", "a_b", "A-B", "int", "arena", "", "3d"]),
        ["a_b", "a_b_2", "A_B_3", "int_", "arena_2", "n", "n3d"]
    );
    assert!(
        names::is_identifier("_a9")
            && !names::is_identifier("9a")
            && !names::is_identifier("")
            && !names::is_identifier("é")
    );
}

#[test]
fn strings_end_no_comment_and_begin_no_trigraph() {
    assert_eq!(names::string("a*/\"\\\n??(é"), r#""a\052/\042\134\012\077\077(\303\251""#);
}

#[test]
fn archives_are_laid_out_as_ar_does() {
    for (name, listed) in [("x.o", "x.o/"), ("a_name_of_many_letters.o", "/0")] {
        let mut out = vec![];
        archive::begin(&mut out, name, 3, &["x_run".into()]).unwrap();
        let member = u32::from_be_bytes(out[8 + 60 + 4..][..4].try_into().unwrap()) as usize;
        assert_eq!(out.len(), member + 60);
        assert!(out[member..].starts_with(listed.as_bytes()) && out.ends_with(b"3         `\n"));
        archive::end(&mut out, 3).unwrap();
        assert_eq!(out.last(), Some(&b'\n'));
    }
}

#[test]
fn what_no_object_computes_is_refused_by_name() {
    let graph = crate::testing::random_graph(3);
    let target = Target::parse("baseline").unwrap();
    let image = || {
        let options = crate::plan::Options::default();
        crate::codegen::compile(&graph, &target, &options, &Destination::Memory).unwrap()
    };
    let refused = |image: &Image, prefix: Option<&str>| {
        let facts = Facts { labels: vec![], preprocess: vec![] };
        Bare::new(image, &target, facts, prefix, false).err().map(|e| e.to_string())
    };
    assert_eq!(refused(&image(), None), None);
    let wrong = refused(&image(), Some("a-b")).unwrap();
    assert!(wrong.starts_with("`a-b` is no name for C"), "{wrong}");
    let mut with_states = image();
    with_states.manifest.states.push(StateRecord { name: "momentum".into(), shape: vec![1], offset: 0 });
    let wrong = refused(&with_states, None).unwrap();
    assert_eq!(wrong, "the network has states (momentum), which an object does not keep");
    let mut of_others = image();
    of_others.manifest.outputs[0].element = Element::I64;
    of_others.manifest.outputs[0].raw = true;
    let wrong = refused(&of_others, None).unwrap();
    assert!(wrong.contains(" is read as i64; "), "{wrong}");
}
