//! Chapter 6: a planted rank under noise, the dial, and what each rule would have said.

use eframe::egui::{Button, Context, Grid, RichText, Slider, Ui, vec2};

use super::state::{Action, Chapter, Game, GameEdit, Hand, Learning, Level, RULES, SIDE, Score};
use crate::app::look::theme::Colors;
use crate::app::widgets::rank_line::RankLine;
use crate::figure::{Axis, Figure, Mark, Series, Style};
use crate::units;
use crate::workspace::Workspace;

use super::View;
use super::flow::{GAP, flow, within};
use super::image::Image;
use super::parts::Part;
use super::pieces::{beside, choice, said, stage, weak};

/// What is remembered between frames.
#[derive(Default)]
pub struct Looks {
    pictures: [Image; 3],
    sigma: Figure,
    key: Option<(u64, Option<usize>)>,
    open: Option<(u64, usize)>,
    truth: String,
}

const PLOT: f32 = 300.0;

impl Looks {
    /// Prepares the plot, and what the open model says about low rank.
    pub fn logic(&mut self, workspace: &Workspace, learning: &Learning) {
        if let Some(game) = &learning.game
            && let Ok(hand) = game.hand()
            && self.key != Some((game.round(), game.planted()))
        {
            self.key = Some((game.round(), game.planted()));
            self.sigma = figure(hand, game.planted());
        }
        let open = (workspace.generation(), workspace.known());
        if self.open != Some(open) {
            self.open = Some(open);
            self.truth = truth(workspace);
        }
    }

    fn paint(&mut self, ctx: &Context, dark: bool, game: &Game, hand: &Hand) {
        let scale = hand.matrix.data().iter().fold(0.0f32, |most, x| most.max(x.abs())) * 0.8;
        let (round, r) = (game.round(), game.r as u64);
        let [whole, low, rest] = &mut self.pictures;
        whole.make(ctx, [round, 0], dark, scale, || (*hand.matrix).clone());
        low.make(ctx, [round, r], dark, scale, || hand.approximation(game.r));
        rest.make(ctx, [round, r], dark, scale, || hand.rest(game.r));
    }
}

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, looks: &mut Looks) {
    let Some(game) = &view.state.game else { return };
    let hand = match game.hand() {
        Ok(hand) => hand,
        Err(error) => {
            ui.label(format!("{error}."));
            return;
        }
    };
    looks.paint(ui.ctx(), ui.visuals().dark_mode, game, hand);
    let mut edit = None;
    stage(ui, |ui| {
        let width = ui.available_width();
        let beside = width > 3.0 * 120.0 + PLOT;
        let side =
            if beside { ((width - PLOT - 3.0 * GAP) / 3.0).min(190.0) } else { ((width - 2.0 * GAP) / 3.0).min(190.0) };
        let side = side.floor();
        let room = Image::room(side);
        let plot = vec2(
            if beside { (width - 3.0 * (side + GAP)).min(420.0) } else { width },
            if beside { room.y.max(205.0) } else { 190.0 },
        );
        let at = flow(ui, &[room, room, room, plot]);
        let names = ["M".to_owned(), format!("rank {}", game.r), "the rest".to_owned()];
        let colors = [Part::Delta.color(ui), Colors::of(ui).rank, ui.visuals().text_color()];
        for ((picture, name), (at, color)) in looks.pictures.iter().zip(&names).zip(at.iter().zip(colors)) {
            picture.ui(ui, *at, name, color);
        }
        within(ui, at[3], "sigma", |ui| {
            let line = RankLine::new(game.r, SIDE);
            let (response, _) = looks.sigma.ui(ui, "planted sigma", |plot| line.veil(plot, &looks.sigma.x));
            if let Some(r) = line.show(ui, &response, &looks.sigma.x) {
                edit = Some(GameEdit::Turn(r));
            }
        });
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| edit = controls(ui, game).or(edit));
    });
    let score = game.score;
    let now = match (game.guess, game.planted()) {
        (Some(guess), Some(planted)) if guess == planted => {
            format!("Exactly: the planted rank is {planted}. {} of {} guesses were exact.", score.exact, score.guesses)
        }
        (Some(guess), Some(planted)) => {
            format!(
                "You said {guess}; the planted rank is {planted}. {} of {} guesses were exact.",
                score.exact, score.guesses
            )
        }
        _ if score.guesses == 0 => "Three exact guesses are wanted.".to_owned(),
        _ => format!("{} of {} guesses were exact; three are wanted.", score.exact, score.guesses),
    };
    let missed = game.guess.is_some() && game.guess != game.planted();
    beside(
        ui,
        |ui| {
            super::goal_as(ui, view, Chapter::Dial, &now, missed);
            said(ui, "ΔW is always low-rank.", &looks.truth);
        },
        |ui| scores(ui, game, hand),
    );
    if let Some(edit) = edit {
        view.actions.push(Action::Game(edit));
    }
}

fn controls(ui: &mut Ui, game: &Game) -> Option<GameEdit> {
    let mut edit = None;
    let label = ui.label(RichText::new("Your rank").strong().color(Colors::of(ui).rank));
    let mut r = game.r;
    ui.spacing_mut().slider_width = 150.0;
    let slider = ui.add(Slider::new(&mut r, 1..=SIDE).logarithmic(true).smart_aim(false));
    if slider.labelled_by(label.id).changed() {
        edit = Some(GameEdit::Turn(r));
    }
    if game.guess.is_none() {
        let text = RichText::new("That is my guess").strong().color(ui.visuals().extreme_bg_color);
        if ui.add(Button::new(text).fill(Colors::of(ui).accent)).clicked() {
            edit = Some(GameEdit::Guess);
        }
    } else if ui.add(Button::new(RichText::new("Next matrix").strong())).clicked() {
        edit = Some(GameEdit::Deal);
    }
    ui.add_space(10.0);
    weak(ui, "Signal:");
    let of = [(Level::Clear, "clear"), (Level::Faint, "faint"), (Level::Drowned, "partly drowned")];
    choice(ui, game.level(), &of).map(GameEdit::Level).or(edit)
}

/// What each rule said, and how often it was right.
fn scores(ui: &mut Ui, game: &Game, hand: &Hand) {
    let colors = Colors::of(ui);
    let guessed = game.guess.is_some();
    ui.spacing_mut().item_spacing.y = 3.0;
    Grid::new("scores").num_columns(4).spacing(vec2(16.0, 3.0)).striped(true).min_row_height(17.0).show(ui, |ui| {
        for title in ["who", "says", "total error", "exact"] {
            ui.label(RichText::new(title).small().color(colors.weak));
        }
        ui.end_row();
        let line = |ui: &mut Ui, name: &str, tip: &str, says: Option<usize>, score: Score, strong: bool| {
            let right = guessed && says.is_some() && says == game.planted();
            let color = match (right, strong) {
                (true, _) => colors.good,
                (false, true) => colors.rank,
                (false, false) => ui.visuals().text_color(),
            };
            let label = ui.label(RichText::new(name).color(color));
            if !tip.is_empty() {
                label.on_hover_text(tip);
            }
            let says = match (guessed, says) {
                (false, _) => String::new(),
                (true, Some(rank)) => rank.to_string(),
                (true, None) => "–".to_owned(),
            };
            ui.label(RichText::new(says).color(color));
            // Nothing was guessed yet: nothing to count.
            let counted = |text: String| if score.guesses == 0 { String::new() } else { text };
            ui.label(counted(score.off.to_string()));
            ui.label(counted(format!("{} of {}", score.exact, score.guesses)));
            ui.end_row();
        };
        line(ui, "you", "", game.guess, game.score, true);
        for ((rule, says), score) in RULES.into_iter().zip(hand.answers).zip(game.rules) {
            line(ui, rule.name(), rule.formula(), says, score, false);
        }
    });
}

fn figure(hand: &Hand, planted: Option<usize>) -> Figure {
    let points = hand.spectrum.known().enumerate().map(|(i, s)| [(i + 1) as f64, s]).collect();
    let mut figure = Figure {
        title: "Singular values of M".into(),
        x: Axis::log("index i"),
        y: Axis::linear("strength σ"),
        series: vec![Series::line("σ", points).style(Style::LinePoints).color(1)],
        // Lines that come with the answer have names.
        quiet: planted.is_none(),
        ..Figure::default()
    };
    if let Some(planted) = planted {
        figure.marks.push(Mark { name: "noise edge".into(), at: hand.edge(), vertical: false });
        figure.marks.push(Mark { name: "planted".into(), at: planted as f64 + 0.5, vertical: true });
    }
    figure
}

/// What the spectra of the open model say.
fn truth(workspace: &Workspace) -> String {
    let Some(delta) = workspace.delta() else { return "Open a tuned model, and its spectra will tell.".into() };
    let mut ranks: Vec<(usize, usize)> = delta
        .entries()
        .iter()
        .filter_map(|entry| {
            let spectrum = workspace.latest(&entry.name)?;
            (!spectrum.low_rank && spectrum.frobenius > 0.0)
                .then_some((spectrum.energy_rank(0.9)?, spectrum.full_rank()))
        })
        .collect();
    ranks.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
    let (Some(&least), Some(&middle), Some(&most)) = (ranks.first(), ranks.get(ranks.len() / 2), ranks.last()) else {
        return "An adapter's is, by construction. Open a fully tuned model, and its spectra will tell.".into();
    };
    let share = |(k, n): (usize, usize)| format!("{k} of {n} ({})", units::percent(k as f64 / n as f64));
    format!(
        "In the open model 90 % of ΔW's energy needs {} directions in the middle module of {}, {} in the lowest and {} in the \
         highest. Only B A is low-rank by construction.",
        share(middle),
        ranks.len(),
        share(least),
        share(most),
    )
}
