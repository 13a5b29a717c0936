//! Text for a person: aligned tables, numbers that can be read.

/// A table whose columns are as wide as their widest cell.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    title: &'static str,
    right: bool,
    width: usize,
}

impl Table {
    /// Columns by their titles; one that begins with `>` is aligned to the right, as numbers are.
    pub fn new(titles: &[&'static str]) -> Self {
        let columns = titles.iter().map(|title| {
            let right = title.starts_with('>');
            let title = title.trim_start_matches('>');
            Column { title, right, width: title.chars().count() }
        });
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Makes a column at least this wide: for tables that are printed row by row.
    pub fn widen(&mut self, column: usize, width: usize) {
        if let Some(column) = self.columns.get_mut(column) {
            column.width = column.width.max(width);
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        for (column, cell) in row.iter().enumerate() {
            self.widen(column, cell.chars().count());
        }
        self.rows.push(row);
    }

    /// The titles as a line.
    pub fn head(&self) -> String {
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.line(&titles)
    }

    /// A row as a line.
    pub fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(row) {
            let fill = " ".repeat(column.width.saturating_sub(cell.chars().count()));
            if !line.is_empty() {
                line.push_str("  ");
            }
            let (before, after) = if column.right { (fill.as_str(), "") } else { ("", fill.as_str()) };
            line.extend([before, cell, after]);
        }
        format!("{}\n", line.trim_end())
    }

    /// Everything.
    pub fn render(&self) -> String {
        self.rows.iter().fold(self.head(), |text, row| text + &self.line(row))
    }
}

/// `4,718,592`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `9.44 MB`: three digits, powers of 1000.
pub fn bytes(number: u64) -> String {
    let (mut value, mut unit) = (number as f64, 0);
    while value >= 999.5 && unit < 5 {
        value /= 1000.0;
        unit += 1;
    }
    let unit = ["B", "kB", "MB", "GB", "TB", "PB"][unit];
    if unit == "B" { format!("{number} B") } else { format!("{} {unit}", digits(value, 3)) }
}

/// So many significant digits; powers of ten for what is very large or small.
pub fn digits(value: f64, count: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    // Through the exponent's own rounding, so that 9.9996 with four digits is 10.00.
    let scientific = format!("{value:.*e}", count - 1);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if !(-4..=6).contains(&exponent) {
        return scientific;
    }
    format!("{value:.*}", usize::try_from(count as i32 - 1 - exponent).unwrap_or(0))
}

/// `[128256, 4096]` as `128256 × 4096`.
pub fn shape(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ")
}

/// The number, or a dash where it is not known.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_read() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(4_718_592), "4,718,592");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(9_437_184), "9.44 MB");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(bytes(16_060_556_376), "16.1 GB");
        assert_eq!(digits(0.002702, 3), "0.00270");
        assert_eq!(digits(9.9996, 4), "10.00");
        assert_eq!(digits(123_456.0, 4), "123456");
        assert_eq!(digits(1.5e-9, 4), "1.500e-9");
        assert_eq!(digits(0.0, 4), "0");
        assert_eq!(shape(&[2, 3]), "2 × 3");
        assert_eq!(or_dash(Some(3)), "3");
        assert_eq!(or_dash(None::<u8>), "–");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">σ"]);
        table.push(vec!["a".into(), "10".into()]);
        table.push(vec!["long name".into(), "9".into()]);
        assert_eq!(table.render(), "name        σ\na          10\nlong name   9\n");
    }
}
