//! How much memory there is, and how much of it netc may take where nobody says otherwise.

/// Bytes that compiling, reading files and running may take unless they are allowed more: three
/// quarters of the memory that this process can have. Where nobody tells how much that is, there is
/// no limit.
pub(crate) fn default_memory() -> u64 {
    available().map_or(u64::MAX, |bytes| bytes / 4 * 3)
}

/// Bytes of addresses that this process may still take, where a limit was set (`ulimit -v`). Beyond it, allocations fail
/// although there is memory.
#[cfg(target_os = "linux")]
pub(crate) fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let most = address_limit(&limits)?;
    let taken = kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?;
    Some(most.saturating_sub(taken))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn address_space() -> Option<u64> {
    None
}

/// `Max address space         2048000              2048000              bytes` of `/proc/self/limits`.
#[cfg(target_os = "linux")]
fn address_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes in the unit that keeps the number short.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// The machine's memory, or what the process's group or the process may have of it.
#[cfg(target_os = "linux")]
fn available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemTotal:"));
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // Without a limit there is a word or a number beyond all memory.
    let group = group.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(group).chain(address_space()).min()
}

#[cfg(not(target_os = "linux"))]
fn available() -> Option<u64> {
    None
}

/// `MemTotal:  16384 kB` of `/proc/meminfo`, in bytes.
#[cfg(target_os = "linux")]
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_the_machine() {
        assert_eq!(kilobytes("MemTotal:       16384 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(16 << 20));
        assert_eq!(kilobytes("nothing", "MemTotal:"), None);
        let limits = "Limit  Soft Limit\nMax address space         2048000              unlimited            bytes\n";
        assert_eq!(address_limit(limits), Some(2_048_000));
        assert_eq!(address_limit("Max address space         unlimited            unlimited            bytes\n"), None);
        let bytes = available().unwrap();
        assert!((1 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
