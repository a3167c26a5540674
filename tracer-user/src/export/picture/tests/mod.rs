//! What pictures say, and how they look in a browser.

mod browser;
mod comparisons;
mod markup;
