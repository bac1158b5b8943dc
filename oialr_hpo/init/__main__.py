from oialr_hpo.init import main

if __name__ == "__main__":
    main()
