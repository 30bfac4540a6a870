//! The size of the pages that the gateway's memory is made of.

use nix::sys::prctl;

/// Has the kernel make the process's memory of small pages alone, from here on (`PR_SET_THP_DISABLE`,
/// prctl(2)). The allocator keeps what each thread allocates apart, in a gigabyte of addresses: where
/// the kernel makes that of huge pages, a page of 2 MiB is there for the few kilobytes of each thread
/// and each size.
///
/// # Errors
/// When the kernel has no such call (before Linux 3.15).
pub(crate) fn keep_small() -> nix::Result<()> {
    prctl::set_thp_disable(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_is_huge_from_there_on() {
        keep_small().unwrap();
        assert!(prctl::get_thp_disable().unwrap());
    }
}
