/** What went wrong in the words of the page, and what to do about it. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {string} text
   * @param {string[]} [steps] what the reader can do, each a sentence; `code` stands between backticks
   */
  constructor(title, text, steps = []) {
    super(text);
    this.title = title;
    this.steps = steps;
  }
}
