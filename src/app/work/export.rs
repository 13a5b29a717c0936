//! Copying and saving plots and tables. Pictures come from a screenshot of what is on screen; files are written whole, in a
//! job, where the system's dialog says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::dialog::{self, Kind};
use eframe::egui::{ColorImage, Context, Rect, ScreenshotCallback, ViewportCommand};

use crate::checkpoint::write::write_whole;
use crate::error::{Error, Result};
use crate::figure::html::Report;
use crate::figure::{Figure, csv};
use crate::job::{Job, Wake};

use crate::app::widgets::menu::Take;
use crate::app::widgets::picture::Picture;
use crate::app::widgets::picture_svg;
use crate::app::widgets::png;

/// Texels of a heatmap that are written as numbers at most; a larger matrix is written at a coarser level.
const TEXELS: usize = 1 << 20;

/// What is to be copied or saved.
#[derive(Clone)]
pub struct Export {
    /// How.
    pub take: Take,
    /// The name for a file, without its ending.
    pub name: String,
    /// What.
    pub source: Source,
    /// Where it is on screen.
    pub area: Rect,
}

/// Where its numbers come from.
#[derive(Clone)]
pub enum Source {
    /// A plot.
    Figure(Box<Figure>),
    /// A table: rows of cells, headings first.
    Table(Vec<Vec<String>>),
    /// A heatmap.
    Picture(Arc<dyn Picture>),
}

impl Source {
    /// The numbers, comma-separated.
    fn csv(&self) -> String {
        match self {
            Self::Figure(figure) => figure.csv(),
            Self::Table(rows) => csv::table(rows),
            Self::Picture(picture) => texels(&**picture),
        }
    }

    /// The drawing; for jobs, as a picture's colours are computed anew.
    fn svg(&self, title: &str) -> Result<String> {
        match self {
            Self::Figure(figure) => Ok(figure.svg(720.0, 440.0)),
            Self::Picture(picture) => picture_svg::svg(title, &**picture),
            Self::Table(_) => Err(Error::failure("a table cannot be saved as a drawing")),
        }
    }
}

/// Width and height of a plot in a report.
pub const DRAWN: [f64; 2] = [720.0, 320.0];

/// A part of a report, made in the job that writes it.
pub type Chapter = Box<dyn FnOnce(&mut Report) -> Result<()> + Send>;

/// Carries exports out, one at a time.
pub struct Exporter {
    wake: Wake,
    waiting: Option<(Export, Receiver<Arc<ColorImage>>)>,
    saving: Option<Job<Option<PathBuf>>>,
}

impl Exporter {
    /// Nothing to do yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self { wake, waiting: None, saving: None }
    }

    /// Begins one; a sentence when it is done at once.
    pub fn begin(&mut self, ctx: &Context, export: Export) -> Option<&'static str> {
        match export.take {
            Take::CopyPng | Take::SavePng => {
                let (sender, receiver) = channel();
                let wake = Arc::clone(&self.wake);
                let callback = ScreenshotCallback::new(move |image| {
                    // Nobody waits any more: another export was begun.
                    if sender.send(image).is_ok() {
                        wake();
                    }
                });
                ctx.send_viewport_cmd(ViewportCommand::Screenshot(callback));
                self.waiting = Some((export, receiver));
            }
            Take::CopyTsv => {
                if let Source::Table(rows) = &export.source {
                    ctx.copy_text(tsv(rows));
                    return Some("The table is on the clipboard.");
                }
            }
            Take::SaveSvg => {
                let Export { name, source, .. } = export;
                let title = name.clone();
                self.save(&name, "svg", move || Ok(source.svg(&title)?.into_bytes()));
            }
            Take::SaveCsv => {
                let source = export.source;
                self.save(&export.name, "csv", move || Ok(source.csv().into_bytes()));
            }
        }
        None
    }

    /// Goes on with what was begun: a sentence when it is done.
    pub fn logic(&mut self, ctx: &Context) -> Option<Result<String>> {
        let screenshot = self.waiting.as_ref().and_then(|(_, receiver)| receiver.try_recv().ok());
        if let Some(screenshot) = screenshot
            && let Some((export, _)) = self.waiting.take()
        {
            match png::crop(&screenshot, export.area, ctx.pixels_per_point()) {
                Ok(image) if export.take == Take::CopyPng => {
                    ctx.copy_image(image);
                    return Some(Ok("The picture is on the clipboard.".to_owned()));
                }
                Ok(image) => self.save(&export.name, "png", move || png::encode(&image)),
                Err(error) => return Some(Err(error)),
            }
        }
        let result = self.saving.as_mut().and_then(Job::take)?;
        self.saving = None;
        Some(result.map(|path| match path {
            Some(path) => format!("Saved {}.", path.display()),
            None => "Nothing was saved: no file was chosen.".to_owned(),
        }))
    }

    /// Asks where a report goes, at first in `start`, and writes its chapters into one page.
    pub fn report(&mut self, name: &str, start: Option<&Path>, chapters: Vec<Chapter>) {
        let title = format!("Rankscope: {name}");
        self.save_at(&format!("report of {name}"), "html", start, move || {
            let mut report = Report::new(title);
            chapters.into_iter().try_for_each(|chapter| chapter(&mut report))?;
            Ok(report.html()?.into_bytes())
        });
    }

    fn save(&mut self, name: &str, ending: &'static str, content: impl FnOnce() -> Result<Vec<u8>> + Send + 'static) {
        self.save_at(name, ending, None, content);
    }

    fn save_at(
        &mut self,
        name: &str,
        ending: &'static str,
        start: Option<&Path>,
        content: impl FnOnce() -> Result<Vec<u8>> + Send + 'static,
    ) {
        let file = format!("{}.{ending}", name.replace(['/', '\\', ':', ' '], "-"));
        let kinds: &[dialog::Filter] = match ending {
            "svg" => &[("SVG", &["svg"])],
            "csv" => &[("CSV", &["csv"])],
            "html" => &[("HTML", &["html"])],
            _ => &[("PNG", &["png"])],
        };
        let answer = dialog::ask(&format!("Save {name}"), Kind::Save(file, kinds), start);
        self.saving = Some(Job::spawn("Saving", Arc::clone(&self.wake), move |_| {
            let Some(chosen) = pollster::block_on(answer) else { return Ok(None) };
            let path = chosen.path().to_path_buf();
            write_whole(&path, &content()?)?;
            Ok(Some(path))
        }));
    }
}

/// Cells as tab-separated values, as spreadsheets take them.
pub fn tsv(rows: &[Vec<String>]) -> String {
    let clean = |cell: &String| cell.replace(['\t', '\n', '\r'], " ");
    rows.iter().map(|row| row.iter().map(clean).collect::<Vec<_>>().join("\t") + "\n").collect()
}

/// The finest level that is small enough, a row a line.
fn texels(picture: &dyn Picture) -> String {
    let levels = picture.levels();
    let all = levels.all();
    let level = all.iter().position(|l| l.rows * l.cols <= TEXELS).unwrap_or(all.len().saturating_sub(1));
    let of = levels.get(level);
    let block = picture.block(level, 0..of.rows, 0..of.cols);
    csv::table((0..block.rows()).map(|row| block.row(row).iter().map(|&cell| csv::number(cell))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::widgets::picture::Reduction;
    use crate::app::widgets::pyramid::Pyramid;
    use crate::matrix::Matrix;

    #[test]
    fn cells_are_escaped() {
        let rows = [vec!["a\tb".to_owned(), "c".to_owned()], vec!["1,5".to_owned(), "say \"x\"".to_owned()]];
        assert_eq!(tsv(&rows), "a b\tc\n1,5\tsay \"x\"\n");
    }

    #[test]
    fn a_picture_is_written_as_its_numbers() {
        let matrix = Matrix::new(2, 2, vec![1.0, 2.5, -3.0, 0.0]).unwrap();
        let picture = Pyramid::build(Arc::new(matrix), Reduction::Mean, &()).unwrap();
        assert_eq!(Source::Picture(Arc::new(picture)).csv(), "1,2.5\r\n-3,0\r\n");
    }
}
