//! What the operating system tells of the processor, for the cost model and for people.

use std::path::Path;

/// What the processor is called, or its architecture where the system does not tell.
pub(crate) fn name() -> String {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = described.lines().find_map(|l| l.strip_prefix("model name")?.trim_start().strip_prefix(':'));
    name.map_or(std::env::consts::ARCH, str::trim).to_string()
}

/// Which processor it is, by the numbers that its maker gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub vendor: String,
    pub family: u32,
    pub model: u32,
}

/// This machine's, where the system tells: Linux on x86-64 does.
pub(crate) fn model() -> Option<Model> {
    read_model(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// Of the first CPU in Linux's description.
fn read_model(described: &str) -> Option<Model> {
    let field = |name: &str| {
        let fields = described.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let number = |name: &str| field(name)?.parse().ok();
    Some(Model { vendor: field("vendor_id")?.into(), family: number("cpu family")?, model: number("model")? })
}

/// One core's share of the cache of data at each level, in bytes, where the system tells a plausible
/// size.
pub(crate) fn caches() -> [Option<usize>; 3] {
    read_caches(Path::new("/sys/devices/system/cpu/cpu0/cache"))
}

/// From a folder in which Linux describes the caches of a core, one a folder.
fn read_caches(folder: &Path) -> [Option<usize>; 3] {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found: Vec<Described> = listed.filter_map(|entry| Described::read(&entry.path())).collect();
    // CPUs that share the first level are one core.
    let core = found.iter().filter(|c| c.level == "1").map(|c| c.sharers).min().unwrap_or(1);
    ["1", "2", "3"].map(|level| {
        let cache = found.iter().find(|c| c.level == level)?;
        Some(cache.bytes / (cache.sharers / core).max(1)).filter(|b| PLAUSIBLE.contains(b))
    })
}

/// A cache of data as Linux describes it.
struct Described {
    level: String,
    bytes: usize,
    /// CPUs that have it in common.
    sharers: usize,
}

impl Described {
    fn read(folder: &Path) -> Option<Described> {
        let field = |name: &str| std::fs::read_to_string(folder.join(name)).ok().map(|s| s.trim().to_string());
        let holds_data = field("type")? != "Instruction";
        let sharers = field("shared_cpu_list").map_or(1, |list| sharers(&list));
        holds_data.then_some(Described { level: field("level")?, bytes: size(&field("size")?)?, sharers })
    }
}

/// Shares outside are a virtual machine's mistake.
const PLAUSIBLE: std::ops::RangeInclusive<usize> = 4 << 10..=1 << 30;

/// `32K` or `8M` in bytes.
fn size(text: &str) -> Option<usize> {
    let (digits, factor) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => (text.strip_suffix('M')?, 1 << 20),
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// How many CPUs a list such as `0-3,8-11` names; at least one.
fn sharers(list: &str) -> usize {
    let count = |range: &str| match range.split_once('-') {
        Some((first, last)) => Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => range.parse::<usize>().ok().map(|_| 1),
    };
    list.split(',').filter_map(count).sum::<usize>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as Linux has it: name, level, type, size, sharers.
    fn described(caches: &[[&str; 5]]) -> std::path::PathBuf {
        let name: String =
            caches.iter().flatten().flat_map(|s| s.chars()).filter(char::is_ascii_alphanumeric).collect();
        let folder = std::env::temp_dir().join(format!("netc-caches-{}-{name}", std::process::id()));
        for [name, fields @ ..] in caches {
            let cache = folder.join(name);
            std::fs::create_dir_all(&cache).unwrap();
            for (field, value) in ["level", "type", "size", "shared_cpu_list"].iter().zip(fields) {
                std::fs::write(cache.join(field), format!("{value}\n")).unwrap();
            }
        }
        folder
    }

    fn read(caches: &[[&str; 5]]) -> [Option<usize>; 3] {
        let folder = described(caches);
        let found = read_caches(&folder);
        std::fs::remove_dir_all(folder).unwrap();
        found
    }

    #[test]
    fn caches_are_read_by_core() {
        // Sixteen CPUs in eight cores.
        let found = read(&[
            ["index0", "1", "Data", "48K", "0,64"],
            ["index1", "1", "Instruction", "32K", "0,64"],
            ["index2", "2", "Unified", "2048K", "0,64"],
            ["index3", "3", "Unified", "96M", "0-7,64-71"],
        ]);
        assert_eq!(found, [Some(48 << 10), Some(2 << 20), Some(12 << 20)]);
    }

    #[test]
    fn the_model_is_that_of_the_first_cpu() {
        let described = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\n\
                         model name\t: Intel(R) Xeon(R)\n\nprocessor\t: 1\nvendor_id\t: Other\nmodel\t\t: 1\n";
        assert_eq!(read_model(described), Some(Model { vendor: "GenuineIntel".into(), family: 6, model: 207 }));
        assert_eq!(read_model("processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n"), None);
    }

    #[test]
    fn what_is_not_told_or_implausible_is_unknown() {
        assert_eq!(read_caches(Path::new("/nonexistent")), [None; 3]);
        let found = read(&[
            ["index0", "1", "Data", "0K", "0"],
            ["index2", "2", "Unified", "huge", "0"],
            ["index3", "3", "Unified", "8M", "nobody"],
        ]);
        assert_eq!(found, [None, None, Some(8 << 20)]);
    }
}
