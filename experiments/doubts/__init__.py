"""Does "the information stays, the classification improves" survive other views, data, flows and measures?"""
