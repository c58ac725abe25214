//! Types that hold secrets have no Debug, Display or Serialize: the crate does not compile if one has.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

use crate::channel::credentials::Bundle;
use crate::secret::{ApiKey, Credentials, Redactor};
use crate::secret_content::Content;

/// The traits that a type implements: an inherent constant, which exists only with the trait, takes precedence over one of [`No`].
pub struct Told<T: ?Sized>(PhantomData<T>);

/// The defaults for a type without an inherent constant.
pub trait No {
    const DEBUG: bool = false;
    const DISPLAY: bool = false;
    const SERIALIZE: bool = false;
}

impl<T: ?Sized> No for Told<T> {}

impl<T: ?Sized + fmt::Debug> Told<T> {
    pub const DEBUG: bool = true;
}

impl<T: ?Sized + fmt::Display> Told<T> {
    pub const DISPLAY: bool = true;
}

impl<T: ?Sized + Serialize> Told<T> {
    pub const SERIALIZE: bool = true;
}

/// A type that holds one of these can't derive what they lack.
const _: () = {
    assert!(!Told::<ApiKey>::DEBUG && !Told::<ApiKey>::DISPLAY && !Told::<ApiKey>::SERIALIZE);
    assert!(!Told::<Credentials>::DEBUG && !Told::<Credentials>::DISPLAY && !Told::<Credentials>::SERIALIZE);
    assert!(!Told::<Redactor>::DEBUG && !Told::<Redactor>::DISPLAY && !Told::<Redactor>::SERIALIZE);
    assert!(!Told::<Bundle>::DEBUG && !Told::<Bundle>::DISPLAY && !Told::<Bundle>::SERIALIZE);
    assert!(!Told::<Content>::DEBUG && !Told::<Content>::DISPLAY && !Told::<Content>::SERIALIZE);
    // The check detects a type that has the traits.
    assert!(Told::<str>::DEBUG && Told::<str>::DISPLAY && Told::<str>::SERIALIZE);
};
