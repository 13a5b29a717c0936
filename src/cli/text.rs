//! Text for a person: aligned tables.

use crate::units::visible;

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
        let row: Vec<String> = row.iter().map(|cell| visible(cell).into_owned()).collect();
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
            let cell = visible(cell);
            let fill = " ".repeat(column.width.saturating_sub(cell.chars().count()));
            if !line.is_empty() {
                line.push_str("  ");
            }
            let (before, after) = if column.right { (fill.as_str(), "") } else { ("", fill.as_str()) };
            line.extend([before, &*cell, after]);
        }
        format!("{}\n", line.trim_end())
    }

    /// Everything.
    pub fn render(&self) -> String {
        self.rows.iter().fold(self.head(), |text, row| text + &self.line(row))
    }
}

/// The number, or a dash where it is not known.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
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
