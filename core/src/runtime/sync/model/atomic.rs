//! Atomics, as bits in one of loom's.

pub use std::sync::atomic::Ordering;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use loom::sync::atomic::{AtomicU64 as Bits, fence};

/// Where a fence makes a `SeqCst` access what it is. loom takes such an access for `AcqRel`, but knows the fence.
///
/// Either place alone orders each `SeqCst` store before each later `SeqCst` load of the same thread. A fence before the
/// load also orders a store that is not `SeqCst`, and a fence after the store orders such a load. So a check is made
/// with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fences {
    BeforeLoads,
    AfterStores,
}

std::thread_local! {
    pub(super) static FENCES: Cell<Fences> = const { Cell::new(Fences::BeforeLoads) };
    /// Whether there was a `SeqCst` access.
    pub(super) static ARE_USED: Cell<bool> = const { Cell::new(false) };
}

/// A type that an atomic can hold.
pub trait Value: Copy {
    /// The value for `bits`.
    fn of(bits: u64) -> Self;
    /// The bits of the value.
    fn bits(self) -> u64;
}

impl Value for bool {
    fn of(bits: u64) -> bool {
        bits != 0
    }

    fn bits(self) -> u64 {
        self.into()
    }
}

impl Value for u8 {
    fn of(bits: u64) -> u8 {
        bits as u8
    }

    fn bits(self) -> u64 {
        self.into()
    }
}

impl Value for u64 {
    fn of(bits: u64) -> u64 {
        bits
    }

    fn bits(self) -> u64 {
        self
    }
}

impl Value for usize {
    fn of(bits: u64) -> usize {
        bits as usize
    }

    fn bits(self) -> u64 {
        self as u64
    }
}

/// A boolean.
pub type AtomicBool = Atomic<bool>;
/// A byte.
pub type AtomicU8 = Atomic<u8>;
/// A 64-bit number.
pub type AtomicU64 = Atomic<u64>;
/// A number.
pub type AtomicUsize = Atomic<usize>;

/// An atomic of the model. Its methods are those of the standard library.
pub struct Atomic<T>(Bits, PhantomData<T>);

#[allow(missing_docs)]
impl<T: Value> Atomic<T> {
    pub fn new(value: T) -> Atomic<T> {
        Atomic(Bits::new(value.bits()), PhantomData)
    }

    pub fn load(&self, order: Ordering) -> T {
        fence_if(order, Fences::BeforeLoads);
        T::of(self.0.load(order))
    }

    pub fn store(&self, value: T, order: Ordering) {
        self.0.store(value.bits(), order);
        fence_if(order, Fences::AfterStores);
    }

    pub fn swap(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.swap(value.bits(), order))
    }

    pub fn fetch_add(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.fetch_add(value.bits(), order))
    }

    pub fn fetch_sub(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.fetch_sub(value.bits(), order))
    }

    pub fn fetch_or(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.fetch_or(value.bits(), order))
    }

    pub fn fetch_and(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.fetch_and(value.bits(), order))
    }

    pub fn fetch_max(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.fetch_max(value.bits(), order))
    }

    pub fn fetch_min(&self, value: T, order: Ordering) -> T {
        self.update(order, |bits| bits.fetch_min(value.bits(), order))
    }

    pub fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T> {
        fence_if(success, Fences::BeforeLoads);
        let exchanged = self.0.compare_exchange(current.bits(), new.bits(), success, failure);
        fence_if(success, Fences::AfterStores);
        exchanged.map(T::of).map_err(T::of)
    }

    pub fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        mut new: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T> {
        let mut before = self.load(fetch);
        while let Some(next) = new(before) {
            match self.compare_exchange(before, next, set, fetch) {
                Ok(before) => return Ok(before),
                Err(other) => before = other,
            }
        }
        Err(before)
    }

    fn update(&self, order: Ordering, update: impl FnOnce(&Bits) -> u64) -> T {
        fence_if(order, Fences::BeforeLoads);
        let before = update(&self.0);
        fence_if(order, Fences::AfterStores);
        T::of(before)
    }
}

fn fence_if(order: Ordering, place: Fences) {
    if order == Ordering::SeqCst {
        ARE_USED.set(true);
        if FENCES.get() == place {
            fence(order);
        }
    }
}

impl<T: Value + Default> Default for Atomic<T> {
    fn default() -> Atomic<T> {
        Atomic::new(T::default())
    }
}

impl<T: Value> From<T> for Atomic<T> {
    fn from(value: T) -> Atomic<T> {
        Atomic::new(value)
    }
}

impl<T> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
