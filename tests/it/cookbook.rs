//! The texts of `docs/COOKBOOK.md`: compiled code of each gives what the interpreter does, and the branches that are to
//! become one convolution do.

use std::path::Path;

fn texts() -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/COOKBOOK.md")).unwrap();
    let texts: Vec<String> =
        page.split("```netc\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect();
    assert!(texts.len() >= 8, "{} texts", texts.len());
    texts
}

#[test]
fn compiled_code_of_each_text_is_right() {
    let here = tempfile::tempdir().unwrap();
    for text in texts() {
        std::fs::write(here.path().join("text.net"), &text).unwrap();
        let ran = super::cli::netc().args(["verify", "text.net"]).current_dir(here.path()).output().unwrap();
        assert!(
            ran.status.success(),
            "{}{}\n{text}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

#[test]
fn branches_infer_as_one_convolution() {
    let text = texts().into_iter().find(|text| text.contains("rep_block")).unwrap();
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("text.net"), &text).unwrap();
    let arguments = ["ir", "--stage", "optimized", "text.net"];
    let ran = super::cli::netc().args(arguments).current_dir(here.path()).output().unwrap();
    let graph = String::from_utf8(ran.stdout).unwrap();
    let layers = graph.lines().filter(|line| line.starts_with("  %") && !line.contains(" = input")).count();
    assert_eq!((layers, graph.matches(" = conv2d").count()), (4, 4), "{graph}");
}
