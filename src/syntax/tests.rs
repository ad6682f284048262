use super::*;
use crate::render::{Style, render};
use std::path::{Path, PathBuf};

/// Every `.net` text of the repository that is meant to be right.
fn good_texts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![];
    let folders = ["models", "tests/goldens", "tests/fixtures/valid", "tests/fixtures/training"];
    let mut pending: Vec<_> = folders.map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                pending.push(entry);
            } else if entry.extension().is_some_and(|e| e == "net") {
                let text = std::fs::read_to_string(&entry).unwrap();
                texts.push((entry, text));
            }
        }
    }
    assert!(texts.len() > 20, "only {} texts found", texts.len());
    texts
}

fn parse_text(text: &str) -> (ast::File, Sources, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let id = sources.add("test.net", text);
    let (file, diagnostics) = parse(&sources, id);
    (file, sources, diagnostics)
}

fn tree_and_messages(text: &str) -> String {
    let (file, sources, diagnostics) = parse_text(text);
    format!("{}\n{}", print_tree(&file), render(&diagnostics, &sources, Style::PLAIN))
}

/// Rules that begin alike are not tried at each level again.
#[test]
fn nested_brackets_take_no_time() {
    for (open, close) in
        [("[", "]"), ("(", ")"), ("abs(", ")"), ("[[1][", "]]"), ("a[", "]"), ("if true then (", ") else 2")]
    {
        let depth = super::MAX_NESTING / 2 - 2;
        let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let text = format!("netc 1\nmodel m {{\n    let x = {value}\n    relu\n}}\n");
        let begin = std::time::Instant::now();
        let (_, _, diagnostics) = parse_text(&text);
        assert_eq!(diagnostics, [], "{text}");
        // Also where a bracket is missing.
        parse_text(&text.replacen(close, "", 1));
        assert!(begin.elapsed().as_secs() < 5, "{text}");
    }
}

#[test]
fn good_texts_parse_without_a_word() {
    for (path, text) in good_texts() {
        let (_, sources, diagnostics) = parse_text(&text);
        assert!(diagnostics.is_empty(), "{}:\n{}", path.display(), render(&diagnostics, &sources, Style::PLAIN));
    }
}

/// The tokens of a text, remarks included: what formatting may not change.
fn token_texts(text: &str) -> Vec<String> {
    tokens::scan(text).iter().map(|t| t.text(text).trim_end().to_string()).collect()
}

#[test]
fn formatting_is_stable_and_changes_nothing() {
    for (path, text) in good_texts() {
        let once = format(&text).unwrap();
        assert_eq!(token_texts(&once), token_texts(&text), "{}", path.display());
        assert_eq!(print_tree(&parse_text(&once).0), print_tree(&parse_text(&text).0), "{}", path.display());
        assert_eq!(format(&once).unwrap(), once, "{}", path.display());
    }
}

#[test]
fn formatting_by_example() {
    let untidy = r#"netc 1
module   a( c ,k=3){conv( c,k )
relu // first
// own line

   longer.0 :  conv(-c*2,1/255)  // second
 b: { relu
 } }


/// Docs.
model m {input x:f32[N,3,4,4]
preprocess x {resize 256  center_crop 224
 mean [0.1,
 0.2]}
  table t(name,a,b){ "one" 1 2
  "three", 1000, -20 }
  let y = 1+
  2
branches concat { identity
  {a(3)  relu}
  x{y}.0:a( 3 , k = if y==1 then 2 else 3) }
  residual
  { a(1)
  }
  skip
  {identity}
output o  from x
expect params==1
expect receptive_field<=2 }
"#;
    let formatted = format(untidy).unwrap();
    assert_eq!(token_texts(&formatted), token_texts(untidy));
    assert_eq!(format(&formatted).unwrap(), formatted);
    insta::assert_snapshot!(formatted);
}

#[test]
fn the_tree_of_everything() {
    let text = r#"netc 1
use "blocks.net"
use std.resnet
let (a, b) = (1, 2.5e-3)
table t(x, y) {
    (1, 2)
    3, "{a}"
}
/// Doc one.
/// Doc two.
module m(c, k = 3) {
    residual { conv(c, k) } skip { if in.channels != c and not k == 3 or a < -1 { "q/{k}.x": conv(c, 1) } else { relu } }
    branches concat {
        conv(1, 1) relu
        for i in 0..=2 { layer{i}: conv(2 ** i ** 2 - 1 % 2 / 3, [1, (2,), ()][0]) }
    }
    enc{a}: from(layer1.0)
    concat(enc{a}, layer1.x, axis = 1)
}
model n {
    input image: f32[N, 3, 1 + 2, 4]
    labels ["a", "\{b\}\n"]
    aux (weight = 0.3) { output z }
    aux "x/y" { relu }
    when train { dropout }
    require a == 1, "not {a}"
    let c = if a > 1 then t[0].x else min(a, b)
    output y from m.x
    from(y)
    expect params == 1_000
}
"#;
    insta::assert_snapshot!(tree_and_messages(text));
}

#[test]
fn each_mistake_is_found_in_one_run() {
    let text = r#"netc 1
module a(c, k = 3 {
    conv(c k)
    bn1 = batch_norm;
    relu
}
modle b() {
    conv(3, 1)
}
model m {
    input x f32[N, 3, 4, 4]
    for i on 0..3 {
        a(3)
    }
    let y 3
    conv(64, 3
    relu
    "open: conv(1, 1)
    output in
}
"#;
    insta::assert_snapshot!(tree_and_messages(text));
}

#[test]
fn a_missing_brace_is_named_where_it_opens() {
    insta::assert_snapshot!(tree_and_messages(
        "netc 1\nmodule a() {\n    if true {\n        relu\n}\nmodel b {\n    relu\n}\n"
    ));
}

/// A block behind an erased head is tried once, not once more as a statement of its own: else the time
/// doubles with each of these.
#[test]
fn nested_blocks_without_heads_take_no_longer_than_others() {
    let text = format!("netc 1\nmodel m {{\n{}", "@ = = {\nrelu\n".repeat(44));
    assert!(!parse_text(&text).2.is_empty());
}

#[test]
fn limits_hold() {
    let nested = |n: usize| format!("netc 1\nlet a = {}1{}\n", "(".repeat(n), ")".repeat(n));
    let code = |text: &str| parse_text(text).2.first().map(|d| d.code);
    assert_eq!(code(&nested(MAX_NESTING)), None);
    assert_eq!(code(&nested(100_000)), Some("too-deep"));
    assert_eq!(code(&format!("netc 1\nmodel a {}", "{".repeat(100_000))), Some("too-deep"));
    assert_eq!(code(&format!("netc 1\nlet a = {}1", "-".repeat(100_000))), Some("expression-too-long"));
    assert_eq!(code(&format!("netc 1\nlet a = 1{}", " ** 1".repeat(100_000))), Some("expression-too-long"));
    assert_eq!(code(&format!("netc 1\nlet a = {}1", "if 1 then 1 else ".repeat(10_000))), Some("too-deep"));
    assert_eq!(code(&format!("netc 1\nlet a = \"{{{}1}}\"", "(".repeat(10_000))), Some("bad-template"));
    assert_eq!(code(&format!("netc 1\nlet a = [{}1]", "1,\n".repeat(MAX_TOKENS / 2))), Some("source-too-large"));
    let list = |n: usize| vec!["a"; n].join(", ");
    assert_eq!(code(&format!("netc 1\nmodule m({}) {{ relu }}", list(MAX_ARGUMENTS + 1))), Some("list-too-long"));
    let call = |n: usize| format!("netc 1\nmodel m {{ a: relu add({}) }}", list(n));
    assert_eq!((code(&call(MAX_ARGUMENTS)), code(&call(MAX_ARGUMENTS + 1))), (None, Some("list-too-long")));
    let models = |n: usize| format!("netc 1\n{}", "model m { relu }\n".repeat(n));
    assert_eq!((code(&models(MAX_MODELS)), code(&models(MAX_MODELS + 1))), (None, Some("too-many-models")));
    let errors = parse_text(&format!("netc 1\n{}", "@ @ @\n".repeat(1000))).2.len();
    assert!((1..=MAX_SYNTAX_ERRORS).contains(&errors), "{errors}");
}

#[test]
fn a_long_line_does_not_widen_its_neighbours() {
    let line = |n: usize| format!("    a{n}: relu // remark\n");
    let list = vec!["1"; 2000].join(", ");
    let text = format!("netc 1\n\nmodel m {{\n{}    let b = [{list}] // long\n{}}}\n", line(1), line(2));
    let formatted = format(&text).unwrap();
    assert!(formatted.len() < text.len() + 100, "{} of {}", formatted.len(), text.len());
    assert_eq!(format(&formatted).unwrap(), formatted);
}

#[test]
fn models_are_named_by_their_words() {
    let text =
        "netc 1 // model no\nmodule model_like { model: relu }\nmodel a { relu }\nmodel\n  b(c = 1) { d }\nmodel";
    assert_eq!(model_names(text), ["a", "b"]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Damaged texts: parsing ends, does not panic, and says something about each damage that matters.
    #[test]
    fn damaged_texts_are_survived(file in 0usize..1000, cuts in proptest::collection::vec((0usize..100_000, 0usize..6, 0usize..12), 1..5)) {
        let texts = good_texts();
        let mut text = texts[file % texts.len()].1.clone();
        for (at, remove, insert) in cuts {
            let mut at = at % text.len();
            while !text.is_char_boundary(at) { at -= 1; }
            let mut end = (at + remove).min(text.len());
            while !text.is_char_boundary(end) { end += 1; }
            text.replace_range(at..end, ["", "{", "}", "(", ")", "\"", ":", "if ", "\u{1}", "é", "= ", "// "][insert]);
        }
        let (_, sources, diagnostics) = parse_text(&text);
        render(&diagnostics, &sources, Style::PLAIN);
        if let Ok(formatted) = format(&text) {
            proptest::prop_assert_eq!(token_texts(&formatted), token_texts(&text));
            proptest::prop_assert_eq!(format(&formatted).unwrap(), formatted);
        } else {
            proptest::prop_assert!(!diagnostics.is_empty());
        }
    }

    #[test]
    fn any_text_is_survived(text in "[netc1moduleif{}()\\[\\]=:,.\"0-9 \n/+*-]{0,200}") {
        let (_, sources, diagnostics) = parse_text(&text);
        render(&diagnostics, &sources, Style::PLAIN);
        let _ = format(&text);
    }
}

/// Texts of another kind are told from networks with mistakes.
#[test]
fn texts_that_are_no_networks() {
    for foreign in [
        "# netc\n\nnetc is a compiler. Use a model (any).\n",
        "import torch\nmodel = Net()\n",
        "{\"a\": 1}",
        "a,b\n1,2",
    ] {
        assert!(is_foreign(foreign), "{foreign}");
    }
    for own in [
        "",
        "// a remark\n\nnetc 1\n",
        "# remark\nnetc 1\nmodel m {}",
        "modle x\nmodel m {\n}",
        "use std.resnet",
        "input x: f32[1]",
    ] {
        assert!(!is_foreign(own), "{own}");
    }
}
