// pure
//! Types that hold secrets have no Debug, Display or Serialize: with one of them the crate does not compile.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

use super::{ApiKey, Credentials, Redactor};
use crate::channel::credentials::Bundle;
use crate::context::Held;
use crate::ohallo::{self, CreatePermit, Session};
use crate::secrets::{Content, Secrets};
use crate::settings::Settings;

/// What is told of a type: a constant of its own, which it has only with the trait, goes before one of [`No`].
struct Told<T: ?Sized>(PhantomData<T>);

trait No {
    const DEBUG: bool = false;
    const DISPLAY: bool = false;
    const SERIALIZE: bool = false;
}

impl<T: ?Sized> No for Told<T> {}

impl<T: ?Sized + fmt::Debug> Told<T> {
    const DEBUG: bool = true;
}

impl<T: ?Sized + fmt::Display> Told<T> {
    const DISPLAY: bool = true;
}

impl<T: ?Sized + Serialize> Told<T> {
    const SERIALIZE: bool = true;
}

/// A type that holds one of these can't derive what they lack.
const _: () = {
    assert!(!Told::<ApiKey>::DEBUG && !Told::<ApiKey>::DISPLAY && !Told::<ApiKey>::SERIALIZE);
    assert!(!Told::<Credentials>::DEBUG && !Told::<Credentials>::DISPLAY && !Told::<Credentials>::SERIALIZE);
    assert!(!Told::<Redactor>::DEBUG && !Told::<Redactor>::DISPLAY && !Told::<Redactor>::SERIALIZE);
    assert!(!Told::<Bundle>::DEBUG && !Told::<Bundle>::DISPLAY && !Told::<Bundle>::SERIALIZE);
    assert!(!Told::<Content>::DEBUG && !Told::<Content>::DISPLAY && !Told::<Content>::SERIALIZE);
    assert!(!Told::<Secrets>::DEBUG && !Told::<Secrets>::DISPLAY && !Told::<Secrets>::SERIALIZE);
    assert!(!Told::<Held>::DEBUG && !Told::<Held>::DISPLAY && !Told::<Held>::SERIALIZE);
    assert!(!Told::<Session>::DEBUG && !Told::<CreatePermit>::DEBUG && !Told::<ohallo::Client>::DEBUG);
    // A proxy's URL may hold a password.
    assert!(!Told::<Settings>::DEBUG && !Told::<ohallo::Options>::DEBUG);
    // The question itself can be answered with yes.
    assert!(Told::<str>::DEBUG && Told::<str>::DISPLAY && Told::<str>::SERIALIZE);
};
