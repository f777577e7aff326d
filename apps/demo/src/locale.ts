// A browser under the POSIX locale names a language that Intl refuses ('en-US@posix'), and uPlot asks Intl as it loads.
try {
  Intl.getCanonicalLocales(navigator.language)
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en-US' })
}

export {}
