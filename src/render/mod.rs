//! Diagnostics as text for people and as JSON for programs.
//!
//! Turns data into strings; printing them is the caller's. Colour appears only when asked for.

pub(crate) mod escape;

use crate::advice::{Interface, worded};
use crate::diagnostic::{Diagnostic, Label, Severity, SourceId, Sources, Span};
use crate::driver::{Error, Warning};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Source excerpts with labels. `width` is the terminal's, in columns.
    Text { color: bool, width: usize },
    /// One JSON object a line, with the plain text under `rendered`.
    Json,
}

/// An error as the command line shows it, with what it advises in an interface's words: mistakes of a text with the lines that
/// they are on, `width` columns wide, in colours of a terminal if that is asked for.
pub fn error_text(error: &Error, interface: Interface, color: bool, width: usize) -> String {
    match error {
        Error::Spec { sources, diagnostics } => {
            let worded: Vec<Diagnostic> = diagnostics.iter().map(|d| for_interface(d, interface)).collect();
            shown(&worded, sources, color, width)
        }
        other => escape::message(&worded(&other.to_string(), interface)).into_owned(),
    }
}

/// The mistakes of a text, each as an object of JSON: `severity`, `code`, `message`, `labels` (`file`, `line`, `column`,
/// `end_line`, `end_column`, `start`, `end`, `text`, `primary`), `notes`, `help`, `rendered`. Lines and columns count from 1,
/// columns in bytes. Of other errors there is none.
pub fn error_json(error: &Error, interface: Interface) -> Vec<String> {
    let Error::Spec { sources, diagnostics } = error else { return vec![] };
    diagnostics.iter().map(|diagnostic| object(diagnostic, sources, interface)).collect()
}

/// A warning as the command line shows it, otherwise as [`error_text`].
pub fn warning_text(warning: &Warning, interface: Interface, color: bool, width: usize) -> String {
    shown(&[for_interface(&warning.diagnostic, interface)], &warning.sources, color, width)
}

/// A warning as an object of JSON, as [`error_json`] has them.
pub fn warning_json(warning: &Warning, interface: Interface) -> String {
    object(&warning.diagnostic, &warning.sources, interface)
}

fn shown(diagnostics: &[Diagnostic], sources: &Sources, color: bool, width: usize) -> String {
    let text = render(diagnostics, sources, Style::Text { color, width });
    if color { escape::rendered(&text) } else { text }.trim_end().into()
}

fn object(diagnostic: &Diagnostic, sources: &Sources, interface: Interface) -> String {
    json_line(&for_interface(diagnostic, interface), sources).trim_end().into()
}

fn for_interface(diagnostic: &Diagnostic, interface: Interface) -> Diagnostic {
    diagnostic.clone().worded(|text| worded(text, interface).into_owned())
}

#[cfg(test)]
impl Style {
    pub(crate) const PLAIN: Style = Style::Text { color: false, width: 120 };
}

/// Of a text full of mistakes, people are shown so many: what a file that is no network at all gives runs to thousands.
const MOST_SHOWN: usize = 50;

/// All diagnostics, each ending in a line end. Programs get all; people the first ones, errors before warnings where there
/// are too many, and how many are left.
pub(crate) fn render(diagnostics: &[Diagnostic], sources: &Sources, style: Style) -> String {
    let one = |d: &Diagnostic| render_one(d, sources, style);
    let more = diagnostics.len().saturating_sub(MOST_SHOWN);
    if more == 0 || style == Style::Json {
        return diagnostics.iter().map(one).collect();
    }
    let (errors, others): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|d| d.severity == Severity::Error);
    let shown: String = errors.into_iter().chain(others).take(MOST_SHOWN).map(one).collect();
    shown + &format!("and {more} more, not shown\n\n")
}

fn render_one(diagnostic: &Diagnostic, sources: &Sources, style: Style) -> String {
    match style {
        Style::Text { color, width } => {
            let renderer = if color { Renderer::styled() } else { Renderer::plain() };
            text(diagnostic, sources, renderer.term_width(width)) + "\n\n"
        }
        Style::Json => json_line(diagnostic, sources),
    }
}

fn text(diagnostic: &Diagnostic, sources: &Sources, renderer: Renderer) -> String {
    let title = level(diagnostic.severity).primary_title(escape::message(&diagnostic.message));
    // What has no kind of its own is an error and nothing else.
    let mut group = Group::with_title(match diagnostic.code == severity_name(diagnostic.severity) {
        true => title,
        false => title.id(diagnostic.code),
    });
    for source in files(diagnostic) {
        group = group.element(snippet(diagnostic, sources, source));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(escape::message(note)));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(escape::message(help)));
    }
    renderer.render(&[group])
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    }
}

/// The files that a diagnostic points into, that of its cause first.
fn files(diagnostic: &Diagnostic) -> Vec<SourceId> {
    let mut files = vec![];
    let (primary, context): (Vec<&Label>, Vec<&Label>) = diagnostic.labels.iter().partition(|l| l.primary);
    for label in primary.into_iter().chain(context) {
        if !files.contains(&label.span.source) {
            files.push(label.span.source);
        }
    }
    files
}

fn snippet<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources, id: SourceId) -> Snippet<'a, Annotation<'a>> {
    let source = sources.get(id);
    let labels = || diagnostic.labels.iter().filter(|l| l.span.source == id);
    let start = labels().map(|l| l.span.start).min().unwrap_or(0);
    let end = labels().map(|l| l.span.end).max().unwrap_or(0);
    // Drawing takes time by the length of what is drawn from.
    let (line, lines) = source.lines_of(start, end);
    let annotations = labels().map(|label| {
        let kind = if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(within(label.span, &lines));
        if label.text.is_empty() { annotation } else { annotation.label(escape::message(&label.text)) }
    });
    let snippet = Snippet::source(&source.text[lines.clone()]).line_start(line as usize);
    snippet.path(escape::name(&source.name)).annotations(annotations)
}

/// A span of the source as one of some of its lines.
fn within(span: Span, lines: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = (span.start as usize).clamp(lines.start, lines.end) - lines.start;
    start..((span.end as usize).min(lines.end) - lines.start).max(start)
}

fn json_line(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let value = json!({
        "severity": severity_name(diagnostic.severity),
        "code": diagnostic.code,
        "message": diagnostic.message,
        "labels": diagnostic.labels.iter().map(|l| json_label(l, sources)).collect::<Vec<Value>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.help,
        "rendered": text(diagnostic, sources, Renderer::plain()) + "\n",
    });
    format!("{value}\n")
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// Lines and columns count from 1, columns in bytes; `start` and `end` are byte offsets.
fn json_label(label: &Label, sources: &Sources) -> Value {
    let end = Span { start: label.span.end, ..label.span };
    let (from, to) = (sources.location(label.span), sources.location(end));
    json!({
        "file": &*from.file,
        "line": from.line,
        "column": from.column,
        "end_line": to.line,
        "end_column": to.column,
        "start": label.span.start,
        "end": label.span.end,
        "text": label.text,
        "primary": label.primary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Sources, Diagnostic) {
        let mut sources = Sources::default();
        let id = sources.add("a.net", "netc 1\nmodel a {\n    conv2d(3)\n}\n");
        let diagnostic = Diagnostic::error("unknown-layer", "no layer or module is named `conv2d`")
            .primary(Span::new(id, 21, 27), "unknown")
            .help("did you mean `conv`?");
        (sources, diagnostic)
    }

    #[test]
    fn text_has_colour_only_when_asked() {
        let (sources, diagnostic) = example();
        let plain = render(std::slice::from_ref(&diagnostic), &sources, Style::PLAIN);
        assert!(!plain.contains('\x1b'));
        insta::assert_snapshot!(plain, @r"
        error[unknown-layer]: no layer or module is named `conv2d`
         --> a.net:3:5
          |
        3 |     conv2d(3)
          |     ^^^^^^ unknown
          |
          = help: did you mean `conv`?
        ");
        let styled = render(&[diagnostic], &sources, Style::Text { color: true, width: 80 });
        assert!(styled.contains("\x1b["));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let (sources, diagnostic) = example();
        let text = render(&[diagnostic.clone(), diagnostic], &sources, Style::Json);
        assert_eq!(text.lines().count(), 2);
        let value: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(value["code"], "unknown-layer");
        assert_eq!((&value["labels"][0]["line"], &value["labels"][0]["column"]), (&json!(3), &json!(5)));
        assert_eq!(value["help"][0], "did you mean `conv`?");
    }

    #[test]
    fn of_very_many_the_first_are_shown_errors_before_warnings() {
        let (sources, diagnostic) = example();
        let mut many = vec![Diagnostic { severity: Severity::Warning, ..diagnostic.clone() }; MOST_SHOWN];
        many.extend([diagnostic.clone(), diagnostic]);
        let text = render(&many, &sources, Style::PLAIN);
        assert_eq!((text.matches("error[").count(), text.matches("warning[").count()), (2, MOST_SHOWN - 2));
        assert!(text.ends_with("\n\nand 2 more, not shown\n\n"), "{text}");
        assert_eq!(render(&many, &sources, Style::Json).lines().count(), many.len());
    }
}
