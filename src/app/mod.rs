//! The window. [`App::logic`](eframe::App::logic) receives results and decides; [`App::ui`](eframe::App::ui) paints and
//! pushes `Effect`s. What paints sees a `View` of everything and changes nothing but its own looks.
//!
//! From bottom to top; a file names what is below it, and no tab another one (`tests/it/floors.rs` holds that):
//!
//! ```text
//! look      theme, fonts, terms, what persists
//! widgets   plots, heatmaps, tables
//! work      what runs beside the window
//! effect    what may be asked for          view   what may be looked at
//! shared    what several tabs show
//! tabs      a folder each: state and views, behind one trait
//! shell     bars, modules, keys, palette, help
//! ```

mod effect;
mod logic;
pub mod look;
mod shared;
mod shell;
mod start;
mod tabs;
mod view;
pub mod widgets;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use eframe::egui::{self, CentralPanel, Frame, Margin, Panel, Stroke};

use crate::checkpoint::hub::Ask;
use crate::job::{Job, Wake};
use crate::workspace::{Beside, Workspace};

use effect::{Effect, Effects, Place};
use look::settings::Settings;
use look::theme;
use shell::Shell;
use tabs::Tab;
use view::{Board, Message, View};
use work::dialog::{Dialog, Question};
use work::export::Exporter;
use work::jobs::Jobs;
use work::shown::Shown;
use work::system::SystemInfo;

pub use start::{Start, run};

/// The program's window.
pub struct App {
    workspace: Workspace,
    settings: Settings,
    jobs: Jobs,
    shown: Shown,
    tabs: Vec<Box<dyn Tab>>,
    board: Board,
    cost: logic::Cost,
    system: SystemInfo,
    looking: Option<Job<SystemInfo>>,
    forgetting: Option<Job<()>>,
    /// What lies beside the open base is being looked for.
    beside: Option<Job<Vec<Beside>>>,
    dialog: Option<(Question, Dialog)>,
    exporter: Exporter,
    message: Message,
    effects: Effects,
    shell: Shell,
    /// What is being opened was open the last time.
    restored: bool,
    sweep_wanted: bool,
    /// Nobody has said yet what they came for.
    welcome: bool,
    /// That this was asked is kept.
    welcomed: bool,
    /// The window is narrow, or its scale large.
    cramped: bool,
    /// A person has chosen what to look at.
    asked: bool,
    /// Spectra were asked for, whatever is in front.
    demanded: bool,
    data_dir: PathBuf,
    /// What draws the window, until the first frame is painted.
    screen: Option<String>,
    /// Where models are fetched from and kept.
    hub: Ask,
    /// The system wants the program to end.
    ending: Arc<AtomicBool>,
}

const SETTINGS: &str = "rankscope-settings";
/// In a narrower window (or at a larger scale) the list of modules is there when it is asked for.
const ROOMY: f32 = 820.0;
/// In front when nobody has chosen.
const FIRST: Place = Place::tab("spectrum");

impl App {
    /// The window's contents; work begins at once.
    pub fn new(cc: &eframe::CreationContext<'_>, start: Start) -> Self {
        theme::install(&cc.egui_ctx);
        // The very first start of a person: nothing was kept, nothing is asked for.
        let kept = cc.storage.is_none_or(|storage| storage.get_string(SETTINGS).is_some());
        let welcome = !kept && start.request.is_none();
        let settings: Settings = cc.storage.and_then(|s| eframe::get_value(s, SETTINGS)).unwrap_or_default();
        let settings = settings.checked();
        cc.egui_ctx.set_theme(settings.theme);
        cc.egui_ctx.set_zoom_factor(settings.scale);
        let ctx = cc.egui_ctx.clone();
        let wake: Wake = Arc::new(move || ctx.request_repaint());
        let data_dir = start.data_dir.unwrap_or_else(start::data_dir);
        let looking = SystemInfo::read(&wake, &data_dir);
        let mut effects = Effects::default();
        let tabs = tabs::all(&wake, &data_dir);
        let last = tabs.iter().map(|tab| tab.id()).find(|id| *id == settings.tab);
        effects.push(Effect::Show(last.map_or(FIRST, Place::tab)));
        // The model of the last time comes back, unless another one is asked for.
        let recent = settings.recent.first().filter(|_| start.request.is_none()).map(|recent| recent.request());
        let restored = recent.is_some();
        effects.push(match start.request.or(recent) {
            Some(request) => Effect::Open(request),
            None => Effect::OpenSample,
        });
        Self {
            workspace: Workspace::default(),
            shell: Shell::new(tabs.len()),
            settings,
            exporter: Exporter::new(Arc::clone(&wake)),
            shown: Shown::default(),
            tabs,
            board: Board::default(),
            jobs: Jobs::new(wake),
            cost: logic::Cost::default(),
            system: SystemInfo::default(),
            looking: Some(looking),
            forgetting: None,
            beside: None,
            dialog: None,
            message: Message::default(),
            effects,
            restored,
            sweep_wanted: false,
            welcome,
            welcomed: false,
            cramped: false,
            asked: false,
            demanded: false,
            data_dir,
            screen: Some(start::screen(cc)),
            hub: start.hub,
            ending: start.ending,
        }
    }

    /// What is loaded and computed: for tests, which look and do not touch.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The next run as it is set up, likewise.
    pub fn draft(&self) -> Option<&crate::train::Settings> {
        self.board.draft.as_deref()
    }

    /// True while any work runs beside the window.
    pub fn is_busy(&self) -> bool {
        !self.jobs.running().is_empty()
            || self.tabs.iter().any(|tab| tab.is_busy())
            || self.looking.is_some()
            || self.beside.is_some()
    }

    /// True when the heatmaps show what was asked of them: no tile is missing or being coloured.
    pub fn is_painted(&self) -> bool {
        self.tabs.iter().all(|tab| tab.is_painted())
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.decide(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        // Asked once, however this start ends.
        if self.welcome
            && !std::mem::replace(&mut self.welcomed, true)
            && let Some(storage) = frame.storage_mut()
        {
            eframe::App::save(self, storage);
            storage.flush();
        }
        self.cramped = ui.available_width() < ROOMY;
        self.effects.begin_frame();
        // From the second frame on a panic is the program's own, and not that of a driver which is tried.
        if ui.ctx().cumulative_frame_nr() > 0
            && let Some(screen) = self.screen.take()
        {
            crate::defect::begin(&self.data_dir, screen);
        }
        let in_front = |at: usize| self.shell.dock.is_seen(at);
        let followed = self.tabs.iter().enumerate().any(|(at, tab)| tab.follows_dial() && in_front(at));
        let mut view = View {
            cramped: self.cramped,
            workspace: &self.workspace,
            jobs: &self.jobs,
            settings: &self.settings,
            shown: &self.shown,
            board: &self.board,
            cost: self.cost.count(),
            adapted: self.cost.adapted(),
            system: &self.system,
            message: &self.message,
            effects: &mut self.effects,
            state: &(),
            actions: &mut Vec::<()>::new(),
        };
        let shell = &mut self.shell;
        if self.welcome && shell::welcome::ui(ui, &mut view, &self.tabs) {
            self.welcome = false;
        }
        let line = theme::Colors::of(ui).line;
        let fill = ui.visuals().panel_fill;
        let bar = Frame::new().fill(fill).inner_margin(Margin::symmetric(12, 7));
        Panel::top("top").frame(bar).show(ui, |ui| shell::top::ui(ui, &mut view));
        shell.path.ui(ui, &mut view);
        shell::defect::ui(ui, &mut view);
        self.tabs.iter_mut().for_each(|tab| tab.notice(ui, &mut view));
        Panel::top("rank").frame(bar).show(ui, |ui| shell.rank.ui(ui, &mut view, followed));
        let status = Frame::new().fill(fill).inner_margin(Margin::symmetric(12, 4));
        let mut running = self.jobs.running();
        running.extend(self.tabs.iter().flat_map(|tab| tab.running()));
        Panel::bottom("status").frame(status).show(ui, |ui| shell::status::ui(ui, &mut view, &running));
        let listed = if view.cramped { shell.listed } else { view.settings.show_modules };
        if listed {
            Panel::left("modules")
                .frame(Frame::new().fill(fill).inner_margin(Margin { left: 12, right: 8, top: 10, bottom: 4 }))
                .default_size(252.0)
                .size_range(180.0..=480.0)
                .show(ui, |ui| shell.modules.ui(ui, &mut view));
        }
        let centre = Frame::new().fill(ui.visuals().extreme_bg_color).stroke(Stroke::new(0.0, line));
        CentralPanel::default().frame(centre).show(ui, |ui| shell.dock.ui(ui, &mut view, &mut self.tabs));
        shell.palette.ui(ui, &mut view, &self.tabs);
        shell::help::ui(ui, &mut shell.help, &self.tabs);
        self.tabs.iter_mut().for_each(|tab| tab.overlay(ui, &mut view));
        shell::drops::ui(ui);
        shell.notices.ui(ui);
        // What was asked for while painting is carried out at once, not at the next movement of the mouse.
        if !self.effects.is_empty() || self.tabs.iter().any(|tab| tab.is_waiting()) {
            ui.ctx().request_repaint();
        }
    }

    fn on_exit(&mut self, _: Option<&eframe::glow::Context>) {
        self.tabs.iter_mut().for_each(|tab| tab.finish());
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        let front = (0..self.tabs.len()).find(|&at| self.shell.dock.is_seen(at));
        if let Some(tab) = front.and_then(|at| self.tabs.get(at)) {
            self.settings.tab = tab.id().to_owned();
        }
        eframe::set_value(storage, SETTINGS, &self.settings);
    }
}
