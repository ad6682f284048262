use std::path::Path;

use prost::Message;

use super::curves::Curve;
use super::events::{Event, What, crc32c, masked, record};
use super::*;

fn columns() -> Vec<Column> {
    let column = |(name, kind): (&str, ColumnKind)| Column::new(name, kind);
    let columns = [
        ("loss", ColumnKind::Loss),
        ("accuracy", ColumnKind::Metric),
        ("lr", ColumnKind::Rate),
        ("images per second", ColumnKind::Figure),
        ("validation loss", ColumnKind::Loss),
    ];
    columns.map(column).to_vec()
}

fn row(step: u64) -> Row {
    let loss = 2.5 / step as f64;
    let validation = (step % 3 == 0).then_some(loss * 1.25);
    Row {
        step,
        epoch: step as f64 / 3.0,
        values: vec![Some(loss), Some(1.0 - loss / 4.0), Some(0.1), Some(516.0), validation],
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn rows_are_there_as_soon_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.csv");
    let mut table = Table::create(&path, &columns()).unwrap();
    for step in 1..=3 {
        table.write(&row(step)).unwrap();
        assert_eq!(text(&path).lines().count(), 1 + step as usize);
    }
    table
        .write(&Row { values: vec![Some(f64::NAN), Some(f64::INFINITY), None, Some(1e-300), Some(-0.1)], ..row(4) })
        .unwrap();
    insta::assert_snapshot!(text(&path));
    let mut read = vec![];
    super::table::read(&path, &columns(), |row| read.push(row)).unwrap();
    assert_eq!(read[..3], [row(1), row(2), row(3)]);
    assert!(read[3].values[0].unwrap().is_nan() && read[3].values[2].is_none());
}

/// A run that is stopped anywhere and goes on leaves the table of a run that is not stopped.
#[test]
fn a_resumed_table_is_that_of_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, path) = (folder.path().join("whole.csv"), folder.path().join("run.csv"));
    let write =
        |table: &mut Table, steps: std::ops::RangeInclusive<u64>| steps.for_each(|s| table.write(&row(s)).unwrap());
    write(&mut Table::create(&whole, &columns()).unwrap(), 1..=6);
    for checkpoint in 0..=6 {
        let mut table = Table::create(&path, &columns()).unwrap();
        write(&mut table, 1..=6);
        drop(table);
        let bytes = std::fs::read(&path).unwrap();
        // Wherever the process was killed after the checkpoint.
        for cut in [0, 10, bytes.len() - 30, bytes.len() - 1, bytes.len()] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let has = text(&path).lines().count().saturating_sub(2) as u64;
            let checkpoint = checkpoint.min(has);
            let mut table = Table::resume(&path, &columns(), checkpoint).unwrap();
            write(&mut table, checkpoint + 1..=6);
            assert_eq!(text(&path), text(&whole), "after step {checkpoint}, cut at {cut}");
        }
    }
    std::fs::remove_file(&path).unwrap();
    write(&mut Table::resume(&path, &columns(), 4).unwrap(), 5..=5);
    assert_eq!(text(&path).lines().count(), 2);
}

#[test]
fn what_is_no_table_of_the_run_is_kept_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.csv");
    let said = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let error = Table::resume(&path, &columns(), 9).unwrap_err().to_string();
        assert_eq!(std::fs::read(&path).unwrap(), content);
        error.replace(&folder.path().display().to_string(), "FOLDER")
    };
    let mut table = Table::create(&path, &columns()).unwrap();
    table.write(&row(1)).unwrap();
    let good = text(&path);
    let with = |line: &str| format!("{good}{line}\n").into_bytes();
    let messages = [
        said(b"a letter\n"),
        said(good.replace("accuracy", "top5").as_bytes()),
        said(&with("x,1,2,3,4,5,6")),
        said(&with("2")),
        said(&with("2,0.5,1,2,3,4")),
        said(&with("2,0.5,1,2,x,4,5")),
        said(&[good.as_bytes(), b"\xff\xff\n"].concat()),
        said(&vec![b'x'; 1 << 17]),
        Table::create(&folder.path().join("none/run.csv"), &columns())
            .unwrap_err()
            .to_string()
            .replace(&folder.path().display().to_string(), "FOLDER"),
        draw(&path, &columns(), "run").unwrap_err().to_string().replace(&folder.path().display().to_string(), "FOLDER"),
    ];
    insta::assert_snapshot!(messages.map(|message| message.replace(&"x".repeat(1000), "")).join("\n"));
}

#[test]
fn names_of_columns_keep_the_table_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.csv");
    let columns = [Column::new("a \"b\", c\nd", ColumnKind::Loss)];
    Table::create(&path, &columns).unwrap();
    assert_eq!(text(&path), "step,epoch,\"a \"\"b\"\", c d\"\n");
    Table::resume(&path, &columns, 0).unwrap();
}

/// RFC 3720, appendix B.4, and the usual check of a CRC.
#[test]
fn checksums_are_those_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    // What TensorBoard's own writer (`RecordWriter` of 2.21) makes of it.
    let written = *b"\x03\0\0\0\0\0\0\0\xb0\x99\x49\x0eabc\x6e\x57\xf1\x21";
    assert_eq!(record(b"abc"), written);
}

/// The events of a file, whose checksums are right.
fn events(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut found = vec![];
    while !rest.is_empty() {
        let (length, after) = rest.split_at(8);
        let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        assert_eq!(after[..4], masked(length).to_le_bytes());
        let (event, after) = after[4..].split_at(size);
        assert_eq!(after[..4], masked(event).to_le_bytes());
        found.push(Event::decode(event).unwrap());
        rest = &after[4..];
    }
    found
}

#[test]
fn events_tell_what_rows_tell() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = Events::create(&folder.path().join("logs"), &columns(), 0).unwrap();
    (1..=3).for_each(|step| file.write(&row(step)).unwrap());
    file.write(&Row { values: vec![None; 5], ..row(4) }).unwrap();
    let found = events(file.path());
    assert_eq!(found[0].what, Some(What::FileVersion("brain.Event:2".into())));
    assert!(matches!(found[1], Event { step: 1, what: Some(What::SessionLog(_)), .. }));
    assert_eq!(found.len(), 5);
    for (event, step) in found[2..].iter().zip(1..) {
        let Some(What::Summary(summary)) = &event.what else { panic!("{event:?}") };
        let scalars: Vec<(String, f64)> =
            summary.value.iter().map(|s| (s.tag.clone(), f64::from(s.simple_value.unwrap()))).collect();
        let expected = columns().into_iter().zip(row(step).values);
        let expected: Vec<(String, f64)> =
            expected.filter_map(|(column, value)| Some((column.name, f64::from(value? as f32)))).collect();
        assert_eq!((event.step, scalars), (step as i64, expected));
        assert!(event.wall_time > 1.6e9);
    }
    // Files of later runs have later names, also within a second.
    let next = Events::create(&folder.path().join("logs"), &columns(), 2).unwrap();
    assert!(next.path().file_name() > file.path().file_name());
    assert_eq!(events(next.path())[1].step, 3);
}

#[test]
fn curves_are_drawn_of_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.csv");
    let mut table = Table::create(&path, &columns()).unwrap();
    assert!(draw(&path, &columns(), "run").unwrap_err().to_string().contains("no numbers"));
    table.write(&row(1)).unwrap();
    assert!(draw(&path, &columns(), "run").unwrap().contains("<circle"));
    (2..=5000).for_each(|step| table.write(&row(step)).unwrap());
    table
        .write(&Row { values: vec![Some(f64::NAN), Some(f64::INFINITY), None, None, Some(f64::MAX)], ..row(5001) })
        .unwrap();
    let drawn = draw(&path, &columns(), "a <run> & more").unwrap();
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
    for name in ["loss", "accuracy", "lr", "validation loss", "epoch", "a &lt;run&gt; &amp; more"] {
        assert!(drawn.contains(name), "{name}");
    }
    assert!(!drawn.contains("images per second") && !drawn.contains("NaN") && !drawn.contains("inf"));
    assert_eq!(drawn.matches("<polyline").count(), drawn.matches("<polyline").count().max(4));
    assert!(drawn.len() < 100_000, "{} bytes", drawn.len());
}

#[test]
fn runs_are_compared_by_one_column() {
    let folder = tempfile::tempdir().unwrap();
    let column = Column::new("loss of \"a\", smooth", ColumnKind::Loss);
    let run = |name: &str, columns: &[Column], factor: f64| {
        let path = folder.path().join(name);
        let mut table = Table::create(&path, columns).unwrap();
        for step in 1..50 {
            let value = Some(factor / step as f64);
            table.write(&Row { step, epoch: step as f64, values: vec![value; columns.len()] }).unwrap();
        }
        path
    };
    let plain = run("plain.csv", std::slice::from_ref(&column), 2.0);
    let residual = run("residual.csv", &[columns(), vec![column.clone()]].concat(), 1.0);
    let drawn = compare(&[("plain", &plain), ("residual", &residual)], &column, "20 layers").unwrap();
    for text in ["plain", "residual", "20 layers", "loss of"] {
        assert!(drawn.contains(text), "{text}");
    }
    let error = compare(&[("plain", &plain), ("other", &plain)], &columns()[1], "none").unwrap_err().to_string();
    let expected = r#"plain.csv: it has no column `accuracy`: its first line is `step,epoch,"loss of ""a"", smooth"`"#;
    assert!(error.contains(expected), "{error}");
}

/// A point of a long curve is the mean of its neighbours; the mean of all stays what it is.
#[test]
fn long_curves_are_thinned() {
    let mut curve = Curve::new(Column::new("loss", ColumnKind::Loss));
    (0..100_000).for_each(|i| curve.add(f64::from(i), 2.0 * f64::from(i)));
    let points: Vec<(f64, f64)> = curve.means().collect();
    assert!((256..1024).contains(&points.len()), "{}", points.len());
    assert!(points.iter().all(|(epoch, value)| (value - 2.0 * epoch).abs() < 1e-6));
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

/// Leaves a run that was stopped and resumed at `NETC_JOURNAL`, for `scripts/check_events.py` and to look at.
#[test]
#[ignore = "writes to the folder that an environment variable names"]
fn leave_a_run() {
    let folder = std::path::PathBuf::from(std::env::var_os("NETC_JOURNAL").expect("NETC_JOURNAL names a folder"));
    let path = folder.join("run.csv");
    let mut table = Table::create(&path, &columns()).unwrap();
    let mut events = Events::create(&folder, &columns(), 0).unwrap();
    (1..=700).for_each(|step| (table.write(&row(step)).unwrap(), events.write(&row(step)).unwrap()).0);
    for (from, to) in [(450, 900), (900, 1200), (1100, 1500)] {
        table = Table::resume(&path, &columns(), from).unwrap();
        events = Events::create(&folder, &columns(), from).unwrap();
        for step in from + 1..=to {
            let mut row = row(step);
            row.values[0] = row.values[0].map(|loss| loss + (step as f64).sin().abs());
            table.write(&row).unwrap();
            events.write(&row).unwrap();
        }
    }
    let runs = [("first", &*path), ("second", &*path)];
    std::fs::write(folder.join("runs.svg"), compare(&runs, &columns()[1], "runs").unwrap()).unwrap();
    std::fs::write(folder.join("run.svg"), draw(&path, &columns(), "run").unwrap()).unwrap();
}
