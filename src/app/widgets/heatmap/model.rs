//! [`Heatmap`]: one picture, its tiles, and what it still needs. Nothing here is proportional to the matrix.

use std::sync::Arc;

use eframe::egui::{Context, Id};

use super::super::levels::Levels;
use super::super::picture::Picture;
use super::super::range::{Limit, RangeControl};
use super::super::tile_cache::TileCache;
use super::super::tiles::{Coloring, Look, SIDE, Stamp, TileBatch, TileId, TileJob, visible};
use super::view::Projection;
use crate::figure::ColorMap;

/// What to say instead of, or beside, a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Status {
    /// Nothing to say.
    #[default]
    Ready,
    /// The picture is on its way: what is being done, and how far it is (0…1) where that is known.
    Computing(String, Option<f32>),
    /// Why there is none.
    Message(String),
    /// What went wrong.
    Failed(String),
}

/// A picture that is looked at, and its number: `(subject, version)`.
#[derive(Clone)]
pub(super) struct Shown {
    pub picture: Arc<dyn Picture>,
    pub subject: u64,
    pub version: u64,
}

/// Everything that the colours of a tile depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    subject: u64,
    version: u64,
    leader: (u64, u64),
    level: usize,
    control: RangeControl,
    map: ColorMap,
    dark: bool,
}

/// One of the linked heatmaps.
pub(super) struct Heatmap {
    pub id: Id,
    pub title: String,
    pub status: Status,
    pub shown: Option<Shown>,
    pub tiles: TileCache,
    /// The look of the newest tiles.
    pub look: Option<Look>,
    pub level: usize,
    state: Option<State>,
    leader: Option<Arc<dyn Picture>>,
    /// Counts changes of [`State`].
    changes: u64,
    wanted: Vec<TileId>,
}

impl Heatmap {
    pub fn new(id: Id, title: String) -> Self {
        Self {
            id,
            title,
            status: Status::Ready,
            shown: None,
            tiles: TileCache::default(),
            look: None,
            level: 0,
            state: None,
            leader: None,
            changes: 0,
            wanted: vec![],
        }
    }

    /// Takes another picture. Tiles of a matrix of another shape cannot stand in for the new ones.
    pub fn show(&mut self, shown: Option<Shown>) {
        let levels = |shown: &Option<Shown>| shown.as_ref().map(|s| s.picture.levels().shape());
        if shown.is_none() || (levels(&self.shown).is_some() && levels(&self.shown) != levels(&shown)) {
            self.tiles.clear();
            self.look = None;
        }
        self.shown = shown;
    }

    pub fn levels(&self) -> Option<&Levels> {
        self.shown.as_ref().map(|s| s.picture.levels())
    }

    /// Decides what is wanted on this frame.
    pub fn aim(
        &mut self,
        projection: &Projection,
        pixels_per_point: f32,
        leader: Option<&Shown>,
        control: RangeControl,
        (map, dark): (ColorMap, bool),
    ) {
        let Some(shown) = &self.shown else {
            self.wanted.clear();
            return;
        };
        let levels = shown.picture.levels();
        self.level = projection.level(levels, pixels_per_point);
        self.wanted = visible(levels, self.level, &projection.area);
        let leader = leader.filter(|_| control.shared).unwrap_or(shown);
        let state = State {
            subject: shown.subject,
            version: shown.version,
            leader: (leader.subject, leader.version),
            // A range that a person typed is the same at every level.
            level: if matches!(control.limit, Limit::Manual(_)) { 0 } else { self.level },
            control,
            map,
            dark,
        };
        if self.state != Some(state) {
            self.state = Some(state);
            self.changes += 1;
        }
        self.leader = Some(leader.picture.clone());
    }

    pub fn stamp(&self) -> Stamp {
        Stamp { map: self.id, subject: self.state.map_or(0, |s| s.subject), version: self.changes }
    }

    /// The tiles to draw.
    pub fn wanted(&self) -> &[TileId] {
        &self.wanted
    }

    /// True when everything that is wanted is there.
    pub fn is_complete(&self) -> bool {
        let stamp = self.stamp();
        self.wanted.iter().all(|&id| self.tiles.has(id, stamp))
    }

    /// The colouring of the tiles that are missing. The whole matrix in one tile comes first while there is nothing yet, and last when
    /// there is something: it is what is seen while others are on their way.
    pub fn required(&self) -> Option<TileJob> {
        let (shown, state, leader) = (self.shown.as_ref()?, self.state?, self.leader.as_ref()?);
        let stamp = self.stamp();
        let mut tiles: Vec<TileId> = self.wanted.iter().copied().filter(|&id| !self.tiles.has(id, stamp)).collect();
        let levels = shown.picture.levels();
        let whole = TileId { level: levels.whole(SIDE), row: 0, col: 0 };
        let missing = !self.tiles.has_subject(whole, stamp.subject) && !tiles.contains(&whole);
        if missing && self.tiles.is_empty() {
            tiles.insert(0, whole);
        } else if missing {
            tiles.push(whole);
        }
        if tiles.is_empty() || levels.shape().contains(&0) {
            return None;
        }
        let State { control, level, map, dark, .. } = state;
        let coloring = match leader.known_stats(level) {
            Some(stats) => Coloring::Fixed(Look { map, dark, range: control.resolve([&*stats], map.is_diverging()) }),
            None => Coloring::OfLevel { map, dark, control, leader: leader.clone(), level },
        };
        Some(TileJob { stamp, tiles, picture: shown.picture.clone(), coloring })
    }

    /// Uploads tiles that are still of use: of this subject, and newer than what is there.
    pub fn deliver(&mut self, ctx: &Context, batch: TileBatch) {
        let stamp = self.stamp();
        if batch.stamp.map != self.id || self.shown.is_none() || batch.stamp.subject != stamp.subject {
            return;
        }
        self.look = Some(batch.look);
        for tile in batch.tiles {
            self.tiles.insert(ctx, tile);
        }
        self.tiles.evict();
        ctx.request_repaint();
    }
}
