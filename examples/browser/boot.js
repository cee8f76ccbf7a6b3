// Runs before the page is drawn, as a classic script: it also runs where modules do not, from file://.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem('theme');
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; then the theme is the system's.
  }

  const explain = (title, text) => {
    root.dataset.state = 'failed';
    document.querySelector('#problem-title').textContent = title;
    document.querySelector('#problem-text').textContent = text;
    document.querySelector('#problem').hidden = false;
  };
  const whenParsed = (work) => {
    if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', work);
    else work();
  };

  if (location.protocol === 'file:') {
    whenParsed(() =>
      explain(
        'This page needs a server',
        'A browser loads no modules from files. Run “node examples/browser/serve.js” in the ' +
          'repository and open the address that it prints.',
      ),
    );
    return;
  }
  // Errors of loading do not bubble: they are caught on their way down.
  addEventListener(
    'error',
    ({ target }) => {
      if (target?.id !== 'main-module') return;
      whenParsed(() =>
        explain(
          'A script of this page could not be loaded',
          'Serve the whole repository: run “node examples/browser/serve.js” there and open the ' +
            'address that it prints.',
        ),
      );
    },
    true,
  );
})();
