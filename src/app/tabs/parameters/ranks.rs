//! Ranks under a budget: the best of every module beside one rank for all, on the map and in a table; what is made of it.

use std::sync::Arc;

use eframe::egui::{Button, Layout, RichText, TextEdit, Ui, WidgetInfo};

use super::View;
use super::state::{Action, Asked, Choice, Product, RULES};
use crate::app::effect::Effect;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::app::shared::layout::{GAP, is_cramped, one_below_the_other, split, within};
use crate::app::shared::names::{common_prefix, in_table};
use crate::app::view::Spread;

use crate::app::shared::module_map::{Maps, Shown};
use crate::app::widgets::map::Cell;
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::checkpoint::layer_of;
use crate::figure::{Mark, Series, Style};
use crate::plan::budget::{Offer, Ranks, Target};
use crate::units;
use crate::workspace::Selection;

use crate::app::shared::path::clean;
use crate::app::shared::typed;

/// What the section remembers.
#[derive(Default)]
pub struct RanksTab {
    budget: String,
    wrong: Option<String>,
    path: String,
    order: Order,
    uniform: bool,
    /// Where the modules stand, and of which offers.
    maps: Option<(Arc<Vec<Offer>>, Maps)>,
}

/// Shares of the energy that one asks for.
const SHARES: [f64; 3] = [0.9, 0.95, 0.99];

const HEADS: [Head<'static>; 7] = [
    Head { title: "module", tip: "A click chooses it", number: false, width: 210.0 },
    Head { title: "best r", tip: "Its rank under the budget", number: true, width: 54.0 },
    Head { title: "keeps", tip: "Share of the module's own energy that this rank keeps", number: true, width: 62.0 },
    Head { title: "one r for all", tip: "Share that one rank for all modules keeps", number: true, width: 84.0 },
    Head { title: "rules from", tip: "The least rank that a rule asks for", number: true, width: 70.0 },
    Head {
        title: "to",
        tip: "The most: between the two lies what the spectrum alone cannot decide",
        number: true,
        width: 54.0,
    },
    Head {
        title: "least … most",
        tip: "Of energy 90 and 99 %, stable, effective, Gavish–Donoho, rounding edge, kohya sv_fro 0.9, PEFT 0.9",
        number: false,
        width: 200.0,
    },
];

impl RanksTab {
    /// Paints the section.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        self.budget(ui, view);
        let choice = match view.state.choice() {
            Some(Ok(choice)) => choice.clone(),
            Some(Err(error)) => {
                ui.label(RichText::new(error.to_string()).color(Colors::of(ui).bad));
                return;
            }
            None => {
                let weak = Colors::of(ui).weak;
                ui.label(RichText::new("The spectra of the modules decide, and none is known yet.").color(weak));
                if !view.jobs.is_sweeping()
                    && view.workspace.delta().is_some()
                    && ui.button("Compute all spectra").clicked()
                {
                    view.effects.push(Effect::AnalyseAll);
                }
                return;
            }
        };
        self.verdict(ui, view, &choice);
        ui.add_space(4.0);
        self.products(ui, view);
        ui.add_space(8.0);
        let room = ui.available_rect_before_wrap();
        if is_cramped(room) {
            return one_below_the_other(ui, &[260.0, 260.0, 420.0], |ui, part| self.part(ui, view, &choice, part));
        }
        // The table needs its columns; what is right of it, or above it, belongs to the pictures.
        let parts = if room.width() > 1300.0 {
            let columns = split(room, &[0.58, 0.42]);
            let cut = columns[1].top() + (room.height() * 0.5).round();
            let (above, below) = columns[1].split_top_bottom_at_y(cut);
            [above, below.with_min_y(below.top() + GAP), columns[0]]
        } else {
            let (above, below) = room.split_top_bottom_at_y(room.top() + (room.height() * 0.45).round());
            let above = split(above, &[0.52, 0.48]);
            [above[0], above[1], below.with_min_y(below.top() + GAP)]
        };
        for (at, rect) in parts.into_iter().enumerate() {
            within(ui, rect, |ui| self.part(ui, view, &choice, at));
        }
        ui.advance_cursor_after_rect(room);
    }

    fn part(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &Choice, part: usize) {
        match part {
            0 => curve(ui, view, choice),
            1 => self.map(ui, view, choice),
            _ => self.table(ui, view, choice),
        }
    }

    fn budget(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let colors = Colors::of(ui);
        ui.horizontal_wrapped(|ui| {
            let label = ui.label(RichText::new("Keep").strong());
            label.on_hover_text("The fewest parameters that keep so much of ΔW's energy");
            let kept = self.kept(view);
            for share in SHARES {
                if ui.selectable_label(kept == Some(share), format!("{:.0} %", 100.0 * share)).clicked() {
                    self.budget = format!("{}%", 100.0 * share);
                    self.wrong = None;
                    view.actions.push(Action::Budget(Some(Target::Energy(share))));
                }
            }
            ui.separator();
            ui.label(RichText::new("or a budget").strong()).on_hover_ui(|ui| glossary::BUDGET.ui(ui));
            let field = TextEdit::singleline(&mut self.budget).hint_text("95%").desired_width(120.0);
            let field = ui.add(field).accessible_name("Budget");
            field.widget_info(|| WidgetInfo::text_edit(true, "", &self.budget, "Budget"));
            if field.changed() {
                let text = self.budget.trim();
                let budget = if text.is_empty() { Ok(None) } else { Target::parse(text, 4).map(Some) };
                match budget {
                    Ok(budget) => {
                        self.wrong = None;
                        view.actions.push(Action::Budget(budget));
                    }
                    Err(error) => self.wrong = Some(error.to_string()),
                }
            }
            match &self.wrong {
                Some(wrong) => ui.label(RichText::new(wrong).small().color(colors.bad)),
                None => {
                    let text =
                        "a share of ΔW's energy (95%), trainable parameters (4.7M) or the adapter's size in f32 (10MB)";
                    ui.label(RichText::new(text).small().color(colors.weak))
                }
            };
        });
    }

    /// The share that is kept, where it is a share that was asked for.
    fn kept(&self, view: &View<'_>) -> Option<f64> {
        match view.state.target() {
            Target::Energy(share) => Some(share),
            Target::Parameters(_) => None,
        }
    }

    fn verdict(&self, ui: &mut Ui, view: &mut View<'_>, choice: &Choice) {
        let colors = Colors::of(ui);
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            ui.label("Best ranks:");
            ui.label(RichText::new(units::percent(choice.best.energy)).strong().color(colors.rank));
            ui.label("of ΔW's energy.").on_hover_text(format!("{} parameters", units::exact(choice.best.trainable)));
            match &choice.uniform {
                Some((r, all)) => {
                    ui.label(format!("One rank for all ({r}):"));
                    ui.label(RichText::new(units::percent(all.energy)).strong());
                    ui.label(format!("with {} parameters.", units::exact(all.trainable)));
                }
                None => {
                    ui.label("One rank for all would take more at rank 1 already.");
                }
            }
            ui.label(RichText::new("Which is better?").color(colors.weak));
            let spread = spread(choice);
            let tip = "One rank for all and a rank for each module at about as many parameters, three seeds of each, one after the \
                       other on the data that are set up under Train: which is better is seen under Compare. α is one for all, so that \
                       a module of a higher rank has a smaller factor s";
            let both = Button::new("Train both");
            if ui.add_enabled(spread.is_some(), both).on_hover_text(tip).clicked() {
                view.actions.push(Action::TrainBoth(spread.clone()));
            }
            if choice.missing > 0 {
                ui.label(
                    RichText::new(format!("{} modules not computed", choice.missing)).color(colors.warn),
                );
                if !view.jobs.is_sweeping() && ui.small_button("Compute all spectra").clicked() {
                    view.effects.push(Effect::AnalyseAll);
                }
            }
        });
    }

    fn products(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Write to").color(Colors::of(ui).weak));
            typed::path(ui, "Write to", &mut self.path, "a new folder or file", 260.0);
            if let Some(path) = view.state.chosen(Asked::Place) {
                self.path = path.display().to_string();
            }
            if ui.button("Browse…").on_hover_text("Choose a place and a name").clicked() {
                view.actions.push(Action::Browse(Asked::Place));
            }
            let ready = !view.state.is_making();
            for (product, name, tip) in [
                (Product::Adapter, "Adapter", "A PEFT adapter of what changed, with these ranks: a folder"),
                (
                    Product::Config,
                    "LoraConfig as JSON",
                    "These ranks for a new training: rank_pattern and alpha_pattern",
                ),
                (Product::Python, "as Python", "The same as lines of Python"),
                (Product::Report, "Report as HTML", "The whole plan with its drawings in one file"),
            ] {
                if ui.add_enabled(ready, Button::new(name)).on_hover_text(tip).clicked() {
                    // Without a path it is asked for.
                    view.actions.push(match self.path.trim() {
                        "" => Action::Browse(Asked::Product(product)),
                        path => Action::Make(product, clean(path)),
                    });
                }
            }
            if let Some(made) = view.state.made() {
                let least = made.modules.iter().map(|kept| kept.energy).fold(1.0, f64::min);
                let text =
                    format!("{} modules written, none keeps less than {}", made.modules.len(), units::percent(least));
                ui.label(RichText::new(text).small().color(Colors::of(ui).weak)).on_hover_text(made.notes.join("\n"));
            }
        });
    }

    fn table(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &Choice) {
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            ui.label(RichText::new("Module by module").strong());
            ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(ui, "ranks", &Take::TABLE, area, || Source::Table(rows(choice)));
            });
        });
        let workspace = view.workspace;
        let prefix = common_prefix(choice.offers.iter().map(|offer| offer.name.as_str()));
        let chosen = Table {
            id: "ranks",
            heads: &HEADS,
            rows: choice.rows.len(),
            entry: &|row, column| match column {
                0 => in_table(entry(choice, row, 0), prefix),
                _ => entry(choice, row, column),
            },
            name: &|row| format!("{}: rank {}", choice.offers[row].name, choice.rows[row].best),
            selected: &|row| workspace.selection().contains(&choice.offers[row].name),
        }
        .ui(ui, &mut self.order);
        if let Some(row) = chosen {
            view.effects.push(Effect::Select(Selection::one(&choice.offers[row].name)));
        }
    }

    fn map(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &Choice) {
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            ui.label(RichText::new("Ranks").strong());
            ui.selectable_value(&mut self.uniform, false, "best");
            ui.selectable_value(&mut self.uniform, true, "one for all");
            ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(
                    ui,
                    "map of ranks",
                    &[Take::CopyPng, Take::SavePng, Take::CopyTsv, Take::SaveCsv],
                    area,
                    || Source::Table(rows(choice)),
                );
            });
        });
        if self.maps.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, &choice.offers)) {
            let names = choice.offers.iter().map(|offer| (offer.name.as_str(), layer_of(&offer.name)));
            self.maps = Some((Arc::clone(&choice.offers), Maps::of(names)));
        }
        let Some((_, maps)) = &self.maps else { return };
        if maps.is_empty() {
            ui.label(RichText::new("No module stands in a numbered block.").color(Colors::of(ui).weak));
            return;
        }
        let rank = |place: usize| match (&choice.uniform, self.uniform) {
            (Some((_, all)), true) => all.r[place],
            (None, true) => 0,
            _ => choice.rows[place].best,
        };
        let workspace = view.workspace;
        let shown = Shown {
            title: "Map of ranks",
            quantity: "rank",
            cell: &|at| Cell::Value(rank(at) as f64),
            selected: &|at| workspace.selection().contains(&choice.offers[at].name),
        };
        if let Some(chosen) = maps.ui(ui, &shown) {
            let names = chosen.iter().map(|&at| choice.offers[at].name.clone()).collect();
            view.effects.push(Effect::Select(Selection::of(names)));
        }
    }
}

/// Energy against parameters: both curves, what was chosen of them, and the dial.
fn curve(ui: &mut Ui, view: &mut View<'_>, choice: &Choice) {
    let area = ui.available_rect_before_wrap();
    let mut figure = choice.curve.figure(choice.edge.map(|edge| edge as f64));
    let chosen = vec![[choice.best.trainable as f64, 100.0 * choice.best.energy]];
    figure.series.push(Series::line("chosen", chosen).style(Style::Points).color(3));
    let r = view.workspace.dial().r;
    let dial = Ranks::of(&choice.offers, choice.offers.iter().map(|offer| r.min(offer.max_rank())).collect());
    figure.marks.push(Mark::upright(format!("the dial, r = {r}"), dial.trainable as f64));
    ui.horizontal(|ui| {
        ui.label(RichText::new("Energy against parameters").strong());
        ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
            view.export(ui, "energy against parameters", &Take::PLOT, area, || {
                Source::Figure(Box::new(figure.clone()))
            });
        });
    });
    figure.ui(ui, "energy against parameters", |_| {});
}

/// The two choices as runs; none where one rank for all takes more than the budget.
fn spread(choice: &Choice) -> Option<Spread> {
    let (uniform, _) = choice.uniform.as_ref()?;
    let named = choice.offers.iter().zip(&choice.rows).filter(|(_, row)| row.best > 0);
    let ranks = named.map(|(offer, row)| (offer.name.clone(), row.best)).collect();
    Some(Spread { uniform: *uniform, ranks }).filter(|spread| spread.uniform > 0)
}

fn entry(choice: &Choice, row: usize, column: usize) -> Entry {
    let (offer, found) = (&choice.offers[row], &choice.rows[row]);
    let whole = |n: Option<usize>| Entry::number(n.map(|n| n as f64), |n| format!("{n:.0}"));
    let share = |x: f64| Entry::number(Some(x), units::percent);
    match column {
        0 => Entry::text(&offer.name),
        1 => whole(Some(found.best)),
        2 => share(found.energy),
        3 => share(found.uniform),
        4 => whole(found.spread().map(|(low, _)| low)),
        5 => whole(found.spread().map(|(_, high)| high)),
        _ => {
            // The two rules that are furthest apart; all of them are under the pointer.
            let known = || RULES.iter().zip(found.rules).filter_map(|(rule, r)| Some((rule.name(), r?)));
            let ends = known().min_by_key(|(_, r)| *r).zip(known().max_by_key(|(_, r)| *r));
            let ends = ends.map_or_else(String::new, |((low, _), (high, _))| format!("{low} … {high}"));
            let say = RULES.iter().zip(found.rules).map(|(rule, r)| match r {
                Some(r) => format!("{} {r}", rule.name()),
                None => format!("{} –", rule.name()),
            });
            let text = say.collect::<Vec<_>>().join(", ");
            Entry::sentence(ends).tip(text)
        }
    }
}

fn rows(choice: &Choice) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let cells =
        (0..choice.rows.len()).map(|row| (0..HEADS.len()).map(|column| entry(choice, row, column).text).collect());
    std::iter::once(heads).chain(cells).collect()
}
