//! Numbers as a person reads them.

use std::time::Duration;

/// A count with three figures: `4.72M`, `175B`, `960`.
pub fn count(n: u64) -> String {
    const STEPS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    for (step, suffix) in STEPS {
        // 999,950 reads 1.00M, not 1000K.
        if n as f64 >= step * 0.9995 {
            return format!("{}{suffix}", figures(n as f64 / step));
        }
    }
    n.to_string()
}

/// A count in full with separators: `4,718,592`.
pub fn exact(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A name from a file as a person may see it on a terminal: control characters, ends of lines and marks that turn the direction of
/// writing are written as escapes, so that no name can act or stand for a line of its own.
pub fn visible(name: &str) -> std::borrow::Cow<'_, str> {
    escaped(name, acts)
}

/// The same of a text of several lines, which may hold tabs.
pub fn visible_lines(text: &str) -> std::borrow::Cow<'_, str> {
    escaped(text, |c| acts(c) && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, which: fn(char) -> bool) -> std::borrow::Cow<'_, str> {
    if !text.contains(which) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if which(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.into()
}

/// Whether a character does something to a terminal instead of standing there.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes in decimal units, as disks and model cards count: `9.44 MB`.
pub fn bytes(n: u64) -> String {
    const STEPS: [(f64, &str); 4] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    for (step, suffix) in STEPS {
        if n as f64 >= step * 0.9995 {
            return format!("{} {suffix}", figures(n as f64 / step));
        }
    }
    format!("{n} bytes")
}

/// A duration at the precision that one waits with: `0.4 s`, `12 s`, `3 min 20 s`, `1 h 5 min`.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs_f64();
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// A range of times as an estimate deserves it, ends rounded outwards: `20 to 45 s`, `40 s to 2 min`, `about 3 min`.
pub fn duration_range([short, long]: [Duration; 2]) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    /// Seconds that an end is rounded to.
    fn grain(seconds: f64) -> u64 {
        match seconds {
            ..=10.0 => 1,
            ..=60.0 => 5,
            ..=3600.0 => MINUTE,
            _ => 10 * MINUTE,
        }
    }
    fn words(s: u64) -> (String, &'static str) {
        match s {
            0..MINUTE => (s.to_string(), "s"),
            MINUTE..HOUR => ((s / MINUTE).to_string(), "min"),
            _ if s.is_multiple_of(HOUR) => ((s / HOUR).to_string(), "h"),
            _ => (format!("{} h {}", s / HOUR, s % HOUR / MINUTE), "min"),
        }
    }
    let (short, long) = (short.min(long).as_secs_f64(), short.max(long).as_secs_f64());
    let outwards = |seconds: f64, round: fn(f64) -> f64| {
        let grain = grain(seconds);
        round(seconds / grain as f64) as u64 * grain
    };
    let (low, high) = (outwards(short, f64::floor), outwards(long, f64::ceil));
    let ((least, of_least), (most, of_most)) = (words(low), words(high));
    match (low, high) {
        (0, high) => {
            if high <= 1 {
                "about 1 s".to_owned()
            } else {
                format!("at most {most} {of_most}")
            }
        }
        (low, high) if low == high => format!("about {most} {of_most}"),
        _ if of_least == of_most && high < HOUR => format!("{least} to {most} {of_most}"),
        _ => format!("{least} {of_least} to {most} {of_most}"),
    }
}

/// A shape: `4096 × 11008`.
pub fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

/// A real number with `digits` significant figures, in scientific notation when it is very small or large.
pub fn real(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let magnitude = x.abs().log10().floor() as i32;
    if !(-4..6).contains(&magnitude) {
        return format!("{:.*e}", digits.saturating_sub(1), x);
    }
    format!("{:.*}", (digits as i32 - 1 - magnitude).max(0) as usize, x)
}

/// A share in percent, never rounded to nothing: `0.0027 %`.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if p == 0.0 {
        return "0 %".into();
    }
    if p < 1e-4 {
        return format!("{p:.1e} %");
    }
    format!("{} %", real(p, if p < 10.0 { 2 } else { 3 }))
}

fn figures(x: f64) -> String {
    if x < 9.995 {
        format!("{x:.2}")
    } else if x < 99.95 {
        format!("{x:.1}")
    } else {
        format!("{x:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_figures() {
        assert_eq!(count(4_718_592), "4.72M");
        assert_eq!(count(175_255_800_000), "175B");
        assert_eq!(count(999_950), "1.00M");
        assert_eq!(count(960), "960");
        assert_eq!(exact(4_718_592), "4,718,592");
        assert_eq!(exact(12), "12");
        assert_eq!(exact(123), "123");
        assert_eq!(bytes(9_437_184), "9.44 MB");
        assert_eq!(bytes(12), "12 bytes");
    }

    #[test]
    fn durations_and_reals() {
        assert_eq!(duration(Duration::from_millis(400)), "0.4 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(3900)), "1 h 5 min");
        let range = |short, long| duration_range([short, long].map(Duration::from_secs_f64));
        assert_eq!(range(22.0, 43.0), "20 to 45 s");
        assert_eq!(range(43.0, 61.0), "40 s to 2 min");
        assert_eq!(range(180.0, 180.0), "about 3 min");
        assert_eq!(range(181.0, 239.0), "3 to 4 min");
        assert_eq!(range(3500.0, 7300.0), "58 min to 2 h 10 min");
        assert_eq!(range(3600.0, 10_800.0), "1 h to 3 h");
        assert_eq!(range(0.2, 0.9), "about 1 s");
        assert_eq!(range(0.2, 2.1), "at most 3 s");
        assert_eq!(range(9.0, 4.0), "4 to 9 s");
        assert_eq!(real(0.012345, 3), "0.0123");
        assert_eq!(real(1.5e-7, 2), "1.5e-7");
        assert_eq!(real(123456.0, 3), "123456");
        assert_eq!(percent(0.000027), "0.0027 %");
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!(shape(&[3, 4]), "3 × 4");
    }

    #[test]
    fn names_cannot_act() {
        assert_eq!(visible("a.weight"), "a.weight");
        assert_eq!(visible("a\u{1b}[2J\nerror: b"), "a\\u{1b}[2J\\nerror: b");
        assert_eq!(visible_lines("a\nb\u{7}\n"), "a\nb\\u{7}\n");
    }
}
