//! The two units of x86: `vdpbf16ps` on vectors of 512 bits (Zen 4, Cooper Lake and later), and AMX tiles (Sapphire Rapids and
//! later).

use super::super::gemm::Values;
use super::{BLOCK, LINES, Lines, Tile};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::transmute;
use std::sync::OnceLock;

/// What multiplies bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// AMX: tiles of 16 rows of 64 bytes.
    Tiles,
    /// AVX512-BF16: sums of two products a lane.
    Dots,
}

impl Unit {
    /// Those that this processor has, the fastest first.
    pub fn all() -> Vec<Self> {
        static TILES: OnceLock<bool> = OnceLock::new();
        let vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bf16");
        if !vectors {
            return Vec::new();
        }
        if *TILES.get_or_init(tiles) { vec![Self::Tiles, Self::Dots] } else { vec![Self::Dots] }
    }

    /// The one that is so much faster than vectors of `f32` that a product of split factors pays.
    pub(super) fn exact() -> Option<Self> {
        static FASTEST: OnceLock<Option<Unit>> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::all().into_iter().find(|unit| *unit == Self::Tiles))
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiles => "AMX",
            Self::Dots => "AVX512-BF16",
        }
    }

    /// Does what multiplies tiles, with the thread's tiles laid out for it.
    pub(super) fn session<T>(self, work: impl FnOnce() -> T) -> T {
        if self == Self::Dots {
            return work();
        }
        // SAFETY: `all` gives this unit only where the processor has tiles and the system lets the program use them; nothing
        // else in this program does.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const LAYOUT, options(nostack)) };
        let done = work();
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack)) };
        done
    }

    /// Packs lines from `first` and values along the sum from `from` on, a block of either for each term; by pair, or by line. Gives
    /// whether any term but the first is more than zero.
    pub(super) fn pack<const TERMS: usize>(
        self,
        lines: &Lines,
        [first, from]: [usize; 2],
        by_pair: bool,
        to: &mut [u32],
    ) -> bool {
        assert!(to.len() == TERMS * BLOCK);
        // SAFETY: `all` gives a unit only where the processor has these vectors.
        unsafe { pack::<TERMS>(lines, first, from, by_pair, to) }
    }

    /// # Safety
    /// The blocks are there, and 32 rows of 32 values in `c`; the thread is in a session.
    pub(super) unsafe fn multiply(self, tile: &Tile) {
        // SAFETY: the caller's; the processor has what `all` gave.
        unsafe {
            match (self, tile.terms) {
                (Self::Dots, _) => dots_multiply(tile),
                (Self::Tiles, [1, ..]) => tiles_multiply(tile),
                (Self::Tiles, [_, 1]) => tiles_multiply_split(tile),
                (Self::Tiles, _) => tiles_multiply_both_split(tile),
            }
        }
    }
}

/// How eight tiles are laid out: 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Layout {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static LAYOUT: Layout = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut at = 0;
    while at < 8 {
        (row_bytes[at], rows[at]) = (64, 16);
        at += 1;
    }
    Layout { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// Whether there are tiles that multiply bf16, and Linux lets this program use them: they have to be asked for.
fn tiles() -> bool {
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    if !cfg!(target_os = "linux") || __get_cpuid_max(0).0 < 7 {
        return false;
    }
    if __cpuid_count(7, 0).edx & (TILE | BF16) != TILE | BF16 {
        return false;
    }
    const ARCH_PRCTL: usize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let refused: isize;
    // SAFETY: the call changes nothing but what this process may do, and touches no memory of it; it fails where the system does
    // not keep tiles.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    refused == 0
}

/// The lowest `count` of sixteen.
fn lowest(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

/// Two vectors of `f32` as one of bf16, the first in the lower half.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn narrow(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 bits.
    unsafe { transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Words of the values of two vectors of sixteen, the first one's in the lower half.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn paired(low: __m256i, high: __m256i) -> __m512i {
    _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high)))
}

/// The values of a vector of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn widened(halves: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}

/// Two vectors of `f32` as sums of bf16: each term is what those before it leave.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn split<const TERMS: usize>(mut low: __m512, mut high: __m512) -> [__m512i; TERMS] {
    let mut terms = [_mm512_setzero_si512(); TERMS];
    for (at, term) in terms.iter_mut().enumerate() {
        *term = narrow(low, high);
        if at + 1 < TERMS {
            low = _mm512_sub_ps(low, widened(_mm512_castsi512_si256(*term)));
            high = _mm512_sub_ps(high, widened(_mm512_extracti64x4_epi64::<1>(*term)));
        }
    }
    terms
}

/// A value that is bf16: its first term.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn whole<const TERMS: usize>(words: __m512i) -> [__m512i; TERMS] {
    let mut terms = [_mm512_setzero_si512(); TERMS];
    terms[0] = words;
    terms
}

/// # Safety
/// The processor has the vectors, and the lines are in their buffer ([`Lines::of`]).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pack<const TERMS: usize>(lines: &Lines, first: usize, from: usize, by_pair: bool, to: &mut [u32]) -> bool {
    let mut words = [[_mm512_setzero_si512(); 16]; TERMS];
    let mut more = _mm512_setzero_si512();
    for half in 0..2 {
        let first = first + half * 16;
        let count = lines.count.saturating_sub(first).min(16);
        let depth = lines.depth.saturating_sub(from).min(LINES);
        // SAFETY: masked lanes are not touched, and the others are in the buffer.
        unsafe {
            if lines.step == 1 {
                by_line(lines, first, count, from, depth, &mut words);
            } else {
                by_pairs(lines, first, count, from, depth, &mut words);
            }
        }
        // What was bf16 before has one term, here and in the rest of its panel: the others are never read.
        let terms = if matches!(lines.data, Values::Bf16(_)) { 1 } else { TERMS };
        for (term, words) in words.iter_mut().enumerate().take(terms) {
            if term > 0 {
                words.iter().for_each(|word| more = _mm512_or_si512(more, *word));
            }
            if by_pair == (lines.step == 1) {
                transpose(words);
            }
            // A line is 16 words, a pair 32 of which this half has 16.
            let (begin, stride) = if by_pair { (half * 16, LINES) } else { (half * BLOCK / 2, 16) };
            for (at, word) in words.iter().enumerate() {
                let to = &mut to[term * BLOCK + begin + at * stride..][..16];
                // SAFETY: sixteen words.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *word) };
            }
        }
    }
    // Zero has a sign.
    _mm512_test_epi32_mask(more, _mm512_set1_epi32(0x7fff_7fff)) != 0
}

/// Sixteen lines whose values lie one after the other.
///
/// # Safety
/// As [`pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn by_line<const TERMS: usize>(
    lines: &Lines,
    first: usize,
    count: usize,
    from: usize,
    depth: usize,
    words: &mut [[__m512i; 16]; TERMS],
) {
    let (low, high) = (lowest(depth), lowest(depth.saturating_sub(16)));
    for at in 0..16 {
        let begin = (first + at) * lines.line + from;
        // SAFETY: of a line that is there, `depth` values are in the buffer.
        let of = unsafe {
            match lines.data {
                _ if at >= count => [_mm512_setzero_si512(); TERMS],
                Values::F32(data) => {
                    let data = data.as_ptr().wrapping_add(begin);
                    split(_mm512_maskz_loadu_ps(low, data), _mm512_maskz_loadu_ps(high, data.wrapping_add(16)))
                }
                Values::Bf16(data) => {
                    let mask = u32::from(low) | u32::from(high) << 16;
                    whole(_mm512_maskz_loadu_epi16(mask, data.as_ptr().wrapping_add(begin).cast()))
                }
            }
        };
        words.iter_mut().zip(of).for_each(|(words, word)| words[at] = word);
    }
}

/// Sixteen pairs of lines that lie beside each other.
///
/// # Safety
/// As [`pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn by_pairs<const TERMS: usize>(
    lines: &Lines,
    first: usize,
    count: usize,
    from: usize,
    depth: usize,
    words: &mut [[__m512i; 16]; TERMS],
) {
    for at in 0..16 {
        let at_of = |k: usize| (if k < depth { lowest(count) } else { 0 }, first + (from + k) * lines.step);
        // SAFETY: of values along the sum that are there, `count` lines are in the buffer.
        let of: [__m512i; TERMS] = unsafe {
            match lines.data {
                Values::F32(data) => {
                    let [low, high] = [2 * at, 2 * at + 1].map(at_of);
                    let load =
                        |(mask, begin): (u16, usize)| _mm512_maskz_loadu_ps(mask, data.as_ptr().wrapping_add(begin));
                    split(load(low), load(high))
                        .map(|both| paired(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both)))
                }
                Values::Bf16(data) => {
                    let [low, high] = [2 * at, 2 * at + 1].map(at_of);
                    let load = |(mask, begin): (u16, usize)| {
                        _mm256_maskz_loadu_epi16(mask, data.as_ptr().wrapping_add(begin).cast())
                    };
                    whole(paired(load(low), load(high)))
                }
            }
        };
        words.iter_mut().zip(of).for_each(|(words, word)| words[at] = word);
    }
}

/// A matrix of sixteen times sixteen words.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn transpose(rows: &mut [__m512i; 16]) {
    let m = *rows;
    let mut t = m;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(m[2 * i], m[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(m[2 * i], m[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    let mut v = u;
    for j in 0..4 {
        v[j] = _mm512_shuffle_i32x4::<0x88>(u[j], u[4 + j]);
        v[4 + j] = _mm512_shuffle_i32x4::<0xdd>(u[j], u[4 + j]);
        v[8 + j] = _mm512_shuffle_i32x4::<0x88>(u[8 + j], u[12 + j]);
        v[12 + j] = _mm512_shuffle_i32x4::<0xdd>(u[8 + j], u[12 + j]);
    }
    for j in 0..4 {
        rows[j] = _mm512_shuffle_i32x4::<0x88>(v[j], v[8 + j]);
        rows[8 + j] = _mm512_shuffle_i32x4::<0xdd>(v[j], v[8 + j]);
        rows[4 + j] = _mm512_shuffle_i32x4::<0x88>(v[4 + j], v[12 + j]);
        rows[12 + j] = _mm512_shuffle_i32x4::<0xdd>(v[4 + j], v[12 + j]);
    }
}

/// Four tiles of `c` from two of either factor at a time, for each block what `$step` says; a tile of `a` is 16 lines of 64 bytes, one of
/// `b` 16 pairs of 64 bytes 128 apart, and a block of either 2048 bytes a term.
macro_rules! tiles {
    ($tile:ident, [$($step:expr),* $(,)?], $a:literal, $b:literal) => {{
        let lower = $tile.c.wrapping_add(16 * $tile.stride);
        asm!(
            "test {keep}, {keep}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {stride}]",
            "tileloadd tmm1, [{c} + {stride} + 64]",
            "tileloadd tmm2, [{lower} + {stride}]",
            "tileloadd tmm3, [{lower} + {stride} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            $($step,)*
            concat!("add {a}, ", $a),
            concat!("add {b}, ", $b),
            "dec {blocks}",
            "jnz 3b",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            "tilestored [{lower} + {stride}], tmm2",
            "tilestored [{lower} + {stride} + 64], tmm3",
            keep = in(reg) usize::from($tile.keep),
            a = inout(reg) $tile.a => _,
            b = inout(reg) $tile.b => _,
            blocks = inout(reg) $tile.blocks => _,
            c = in(reg) $tile.c,
            lower = in(reg) lower,
            stride = in(reg) 4 * $tile.stride,
            line = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }};
}

/// Loads a term of `a`: bytes from the begin of its block.
macro_rules! load_a {
    ($at:literal) => {
        concat!("tileloadd tmm4, [{a} + {line} + ", $at, "]\ntileloadd tmm5, [{a} + {line} + ", $at, " + 1024]")
    };
}

/// Loads a term of `b`.
macro_rules! load_b {
    ($at:literal) => {
        concat!("tileloadd tmm6, [{b} + {line}*2 + ", $at, "]\ntileloadd tmm7, [{b} + {line}*2 + ", $at, " + 64]")
    };
}

/// Multiplies what was loaded.
macro_rules! multiply {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\ntdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// # Safety
/// As [`Unit::multiply`].
unsafe fn tiles_multiply(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { tiles!(tile, [load_a!(0), load_b!(0), multiply!()], 2048, 2048) }
}

/// Three terms of `a`, the smallest first, and the first of `b`, which has room for three.
///
/// # Safety
/// As [`Unit::multiply`].
unsafe fn tiles_multiply_split(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        tiles!(
            tile,
            [load_b!(0), load_a!(4096), multiply!(), load_a!(2048), multiply!(), load_a!(0), multiply!()],
            6144,
            6144
        );
    }
}

/// Six products of three terms of both, the largest last.
///
/// # Safety
/// As [`Unit::multiply`].
unsafe fn tiles_multiply_both_split(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        tiles!(
            tile,
            [
                load_a!(0),
                load_b!(4096),
                multiply!(),
                load_b!(2048),
                multiply!(),
                load_a!(2048),
                multiply!(),
                load_b!(0),
                multiply!(),
                load_a!(4096),
                multiply!(),
                load_a!(0),
                multiply!(),
            ],
            6144,
            6144
        );
    }
}

/// Rows whose sums are in registers at once, of two vectors each.
const AT_ONCE: usize = 8;

/// # Safety
/// As [`Unit::multiply`], and the processor has the vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn dots_multiply(tile: &Tile) {
    for row in (0..tile.rows).step_by(AT_ONCE) {
        let (a, c) = (tile.a.wrapping_add(row * 16), tile.c.wrapping_add(row * tile.stride));
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; AT_ONCE];
            if tile.keep {
                for (at, sums) in sums.iter_mut().enumerate() {
                    let c = c.add(at * tile.stride);
                    *sums = [_mm512_loadu_ps(c), _mm512_loadu_ps(c.add(16))];
                }
            }
            for block in 0..tile.blocks {
                let (a, b) = (a.add(block * BLOCK), tile.b.add(block * BLOCK));
                for pair in 0..16 {
                    let b = b.add(pair * LINES).cast::<__m512bh>();
                    let b = [b.read_unaligned(), b.add(1).read_unaligned()];
                    for (at, sums) in sums.iter_mut().enumerate() {
                        let x: __m512bh = transmute(_mm512_set1_epi32(*a.add(at * 16 + pair) as i32));
                        *sums = [_mm512_dpbf16_ps(sums[0], x, b[0]), _mm512_dpbf16_ps(sums[1], x, b[1])];
                    }
                }
            }
            for (at, sums) in sums.iter().enumerate() {
                let c = c.add(at * tile.stride);
                _mm512_storeu_ps(c, sums[0]);
                _mm512_storeu_ps(c.add(16), sums[1]);
            }
        }
    }
}
