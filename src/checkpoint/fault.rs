//! Mapped files that are cut while they are read.
//!
//! The system sends SIGBUS to a program that touches a mapped byte which is gone. A handler puts zeros there instead and marks
//! the file as cut, and whoever has read asks [`Guard::cut`] before the bytes are used. Reading costs nothing by that.

#[cfg(unix)]
pub(super) use unix::Guard;

#[cfg(not(unix))]
pub(super) use other::Guard;

#[cfg(unix)]
mod unix {
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

    /// Where one file is mapped. Slots are never freed, only used again: the handler may look at any of them at any time.
    struct Slot {
        begin: AtomicUsize,
        end: AtomicUsize,
        cut: AtomicBool,
        used: AtomicBool,
        next: AtomicPtr<Slot>,
    }

    static FIRST: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());
    /// The handler that was there before, for faults that are not ours.
    static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

    fn slots() -> impl Iterator<Item = &'static Slot> {
        // SAFETY: what is in the list was leaked and lives for ever.
        let at = |slot: &AtomicPtr<Slot>| unsafe { slot.load(Ordering::Acquire).as_ref() };
        std::iter::successors(at(&FIRST), move |slot| at(&slot.next))
    }

    /// Watches over the mapped bytes of one file as long as it lives; to be dropped before they are.
    pub(in crate::checkpoint) struct Guard(&'static Slot);

    impl Guard {
        pub(in crate::checkpoint) fn new(bytes: &[u8]) -> Self {
            static INSTALLED: Once = Once::new();
            INSTALLED.call_once(install);
            let free =
                |slot: &&Slot| slot.used.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            let slot = slots().find(free).unwrap_or_else(|| {
                let slot: &'static Slot = Box::leak(Box::new(Slot {
                    begin: AtomicUsize::new(0),
                    end: AtomicUsize::new(0),
                    cut: AtomicBool::new(false),
                    used: AtomicBool::new(true),
                    next: AtomicPtr::new(std::ptr::null_mut()),
                }));
                let added = std::ptr::from_ref(slot).cast_mut();
                let mut first = FIRST.load(Ordering::Acquire);
                loop {
                    slot.next.store(first, Ordering::Release);
                    match FIRST.compare_exchange(first, added, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => break slot,
                        Err(now) => first = now,
                    }
                }
            });
            slot.cut.store(false, Ordering::Relaxed);
            slot.begin.store(bytes.as_ptr().addr(), Ordering::Release);
            slot.end.store(bytes.as_ptr().addr() + bytes.len(), Ordering::Release);
            Self(slot)
        }

        /// Whether bytes were asked for that are gone.
        pub(in crate::checkpoint) fn cut(&self) -> bool {
            self.0.cut.load(Ordering::Acquire)
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.end.store(0, Ordering::Release);
            self.0.begin.store(0, Ordering::Release);
            self.0.used.store(false, Ordering::Release);
        }
    }

    fn install() {
        // SAFETY: an all-zero sigaction is a valid one; the handler only does what a handler may: atomics and system calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            let before = Box::leak(Box::new(std::mem::zeroed::<libc::sigaction>()));
            if libc::sigaction(libc::SIGBUS, &raw const action, &raw mut *before) == 0 {
                BEFORE.store(before, Ordering::Release);
            }
        }
    }

    extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system hands a valid siginfo to a handler of SA_SIGINFO.
        let at = unsafe { (*info).si_addr() }.addr();
        for slot in slots() {
            let (begin, end) = (slot.begin.load(Ordering::Acquire), slot.end.load(Ordering::Acquire));
            if !(begin..end).contains(&at) {
                continue;
            }
            slot.cut.store(true, Ordering::Release);
            // SAFETY: asks for a number.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
            let from = at / page * page;
            // SAFETY: the range lies within our own read-only map, from the page that is gone to the end; it becomes zeros. The
            // map's owner unmaps it all the same.
            let zeros = unsafe {
                libc::mmap(
                    std::ptr::without_provenance_mut(from),
                    (end - from).next_multiple_of(page),
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            if zeros != libc::MAP_FAILED {
                return;
            }
            break;
        }
        // SAFETY: what was installed before us is called as it asks to be, or put back, so that the fault comes again to it.
        unsafe {
            match BEFORE.load(Ordering::Acquire).as_ref() {
                Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 => {
                    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        std::mem::transmute(before.sa_sigaction);
                    handler(signal, info, context);
                }
                _ => {
                    libc::signal(libc::SIGBUS, libc::SIG_DFL);
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod other {
    /// A mapped file cannot be cut there.
    pub(in crate::checkpoint) struct Guard;

    impl Guard {
        pub(in crate::checkpoint) fn new(_bytes: &[u8]) -> Self {
            Self
        }

        pub(in crate::checkpoint) fn cut(&self) -> bool {
            false
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::Guard;
    use memmap2::Mmap;
    use rayon::prelude::*;

    #[test]
    fn bytes_that_are_gone_read_as_zeros_and_are_known() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 1 << 20).unwrap();
        // SAFETY: the file is the test's own.
        let [map, other] = [0, 1].map(|_| unsafe { Mmap::map(&file) }.unwrap());
        let (guard, watched) = (Guard::new(&map), Guard::new(&other));
        assert_eq!((map[1 << 20], guard.cut()), (7, false));
        file.set_len(1 << 20).unwrap();
        let sum = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, &byte| sum + u64::from(std::hint::black_box(byte)));
        // From many threads at once.
        let sums: Vec<u64> = (0..4).into_par_iter().map(|_| sum(&map)).collect();
        assert_eq!(sums, [0; 4]);
        assert!(guard.cut() && !watched.cut());
        drop((watched, other));
        drop(guard);
        drop(map);
        // The place of a guard that is gone is used again, and begins whole.
        file.set_len(1 << 21).unwrap();
        // SAFETY: as above.
        let again = unsafe { Mmap::map(&file) }.unwrap();
        let guard = Guard::new(&again);
        assert_eq!((sum(&again), guard.cut()), (0, false));
    }
}
